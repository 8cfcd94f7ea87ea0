"""Every chain of a plan fitted to what the cut net feeds it: what its layer gave before comes out again.

Layers are fitted in the order in which they run, so each repairs what those before it broke (Zhang et al.,
2015, arXiv:1505.06798, without the term for the non-linearity); where its outputs go into a sum, also what
the other side of that has lost. What fits are worth is known before a plan is made, see `refit_gains`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import check_finite
from modelsurgeon.calibration.sensitivity import Calibration, feeds_within
from modelsurgeon.compression.refit.rows import normal_equations
from modelsurgeon.compression.refit.solvers import FitRows, FittedChain, fit_all, fit_last
from modelsurgeon.data import Batches
from modelsurgeon.data.samples import evenly_spaced
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import METHODS, compose, relative_error
from modelsurgeon.layers import Layer
from modelsurgeon.layers.patches import patch_mixers
from modelsurgeon.progress import Progress, counted
from modelsurgeon.surgery.apply import edit_for, install
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import EditableModel, InputPair

MAX_POINTWISE_COLUMNS = (
    4096  # of a patch: with more, the moments of all would take too much, and z alone is looked at
)
MAX_KERNEL_COLUMNS = 2304  # where there are taps besides channels: 256 channels under 3 x 3 of them
TRIAL_FIT_MACS = 5e11  # MACs of a whole net: as many feeds show what fits are worth as they are enough for
TRIAL_FIT_EFFORT = 0.2  # of the steps of a fit


def install_fitted(
    plan: Plan,
    model: EditableModel,
    calibration: Calibration,
    feeds: Batches,
    *,
    seed: int = 0,
    watch: Progress | None = None,
) -> list[FactorizationEdit]:
    """Do what the plan says, every chain fitted to what the layers before it hand on; one edit a step.

    A chain that can't be fitted, of a transposed convolution or of a layer that is applied more than once, is
    put in as calibration alone has it.
    """
    edits = []
    stages = model.paired_inputs(list(plan), feeds)
    for site, pairs in counted(stages, "fitting", len(plan), watch):
        step = plan[site.name]
        view = calibration.view(site)
        try:
            chain = view.chain(step.method, step.rank)
        except UnsupportedLayer as error:
            edits.append(
                FactorizationEdit(layer=site.name, method=step.method, rank=step.rank, skipped=str(error))
            )
            continue
        fit = None
        if not view.layer.transposed and any(True for _ in pairs()):
            fit = refit(
                view.layer,
                chain,
                _checked_pairs(site.name, pairs()),
                feeds.samples,
                inner=METHODS[step.method].alone,  # what chooses channels stays as it is
                centred=view.centred,
                seed=seed,
            )
            chain = list(fit.chain)
        install(site, step, chain)
        edit = edit_for(site, view.layer, step, chain, relative_error(view.layer, chain))
        edits.append(edit if fit is None else replace(edit, output_error=fit.error))
    return edits


def _checked_pairs(layer: str, pairs: Iterable[InputPair]) -> Iterator[InputPair]:
    for fed in pairs:
        check_finite(layer, fed.original)
        yield fed


def refit(
    layer: Layer,
    chain: Sequence[Layer],
    fed: Iterable[InputPair],
    samples: int,
    *,
    inner: bool = True,
    centred: bool = True,
    seed: int = 0,
) -> FittedChain:
    """The chain with its factors and, where `centred`, its bias fitted.

    fed: what the layer was fed, and the chain is. samples: how many those are in all. inner: the factors
    before the last are fitted, too.
    """
    if inner and _fits_in_memory(layer):
        return fit_all(
            layer, chain, FitRows.of(*normal_equations(layer, fed, samples, seed=seed), centred=centred)
        )
    front = patch_mixers(layer, compose(chain[:-1]), chain[-1])
    rows = FitRows.of(*normal_equations(layer, fed, samples, mixers=front, seed=seed), centred=centred)
    return fit_last(layer, chain, rows)


def _fits_in_memory(layer: Layer) -> bool:
    """Whether the moments of the layer's patches are small enough to be held."""
    return bool(layer.weight[0].size <= (MAX_POINTWISE_COLUMNS if layer.is_pointwise else MAX_KERNEL_COLUMNS))


def refit_gains(
    model: EditableModel,
    trials: Mapping[str, tuple[CalibratedLayer, Sequence[PlanStep]]],
    feeds: Batches,
    *,
    seed: int = 0,
    watch: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """For each layer and method, what a fit leaves of the error that is foretold without one.

    A layer of each kind is fitted alone, at the rank of its trial, to what a whole net feeds it, and speaks
    for all of its size and stride. Layers are left out that look at one place: what is foretold for those is
    the best there is. So are those of which only the last factor is fitted.
    """
    few = evenly_spaced(feeds, feeds_within(model, TRIAL_FIT_MACS))
    alike = _representatives({name: view.layer for name, (view, _) in trials.items()})
    stages = model.fresh_copy().paired_inputs(list(alike), few)
    found: dict[str, dict[str, float]] = {}
    for site, pairs in counted(stages, "trial fits", len(alike), watch):
        view, steps = trials[site.name]
        fed = _checked_pairs(site.name, pairs())
        rows = FitRows.of(*normal_equations(view.layer, fed, few.samples, seed=seed), centred=view.centred)
        if rows.learnt:
            found |= dict.fromkeys(alike[site.name], _method_gains(view, steps, rows))
    return found


def _representatives(layers: Mapping[str, Layer]) -> dict[str, list[str]]:
    """One layer of each kind that may gain, from the middle of the net, and all that are alike."""
    kinds: dict[object, list[str]] = {}
    for name, layer in layers.items():
        if not layer.transposed and not layer.is_pointwise and _fits_in_memory(layer):
            kinds.setdefault((layer.weight.shape, layer.groups, layer.stride), []).append(name)
    return {alike[len(alike) // 2]: alike for alike in kinds.values()}


def _method_gains(view: CalibratedLayer, steps: Sequence[PlanStep], rows: FitRows) -> dict[str, float]:
    found = {}
    for step in steps:
        foretold = view.error(step.method, [step.rank])[0]
        fit = fit_all(view.layer, view.chain(step.method, step.rank), rows, effort=TRIAL_FIT_EFFORT)
        found[step.method] = fit.error / foretold if foretold else 1.0
    return found
