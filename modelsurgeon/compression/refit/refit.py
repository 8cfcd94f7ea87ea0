"""Chains of a plan fitted by least squares: from inputs in the cut model to outputs of the original layers.

Layers are fitted in the order in which they run, so each corrects errors of those before it (Zhang et al.,
2015, arXiv:1505.06798, without the term for the non-linearity). Where a layer's outputs are added to a
residual, its chain corrects the error of that as well. `refit_gains` estimates what fits gain before a plan
is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import check_finite
from modelsurgeon.calibration.sensitivity import Calibration, feeds_within
from modelsurgeon.compression.refit.rows import normal_equations
from modelsurgeon.compression.refit.solvers import FitRows, FittedChain, fit_all, fit_last
from modelsurgeon.data import Batches
from modelsurgeon.data.samples import evenly_spaced, is_few
from modelsurgeon.factorize import METHODS, compose
from modelsurgeon.layers import Layer
from modelsurgeon.layers.patches import patch_mixers
from modelsurgeon.progress import Progress, with_progress
from modelsurgeon.surgery.apply import Replacement, apply_step
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import EditableModel, InputPair, InputPairs, Site

# Most columns of a patch with which the moments of whole patches are kept and all factors are fitted:
MAX_POINTWISE_COLUMNS = 4096
MAX_KERNEL_COLUMNS = 2304  # 256 channels under a 3 x 3 kernel
TRIAL_FIT_MACS = 5e11  # MACs of the whole model, over all feeds that trial fits use
TRIAL_FIT_EFFORT = 0.2  # share of the iterations of a full fit


def install_fitted(
    plan: Plan,
    model: EditableModel,
    calibration: Calibration,
    feeds: Batches,
    *,
    seed: int = 0,
    watch: Progress | None = None,
) -> list[FactorizationEdit]:
    """Carry out a plan, every chain fitted to its inputs in the cut model; one edit per step.

    The chain of a transposed convolution, or of a layer that is applied more than once, is not fitted, but
    installed as factorized with calibration. Raises BadData for inputs that are NaN, infinite or too large.
    """
    stages = model.paired_inputs(list(plan), feeds)
    return [
        apply_step(
            site,
            plan[site.name],
            partial(_fit_step, calibration=calibration, pairs=pairs, feeds=feeds, seed=seed),
        )
        for site, pairs in with_progress(stages, "fitting", len(plan), watch)
    ]


def _fit_step(
    site: Site, step: PlanStep, *, calibration: Calibration, pairs: InputPairs, feeds: Batches, seed: int
) -> Replacement:
    """The chain of a step, fitted where there are input pairs, with its error on validation rows."""
    calibrated = calibration.layer(site)
    chain = calibrated.chain(step.method, step.rank)
    if calibrated.layer.transposed or not any(True for _ in pairs()):
        return Replacement(chain)
    fit = refit(
        calibrated.layer,
        chain,
        _checked_pairs(site.name, pairs()),
        feeds.samples,
        inner=METHODS[step.method].alone,  # a selection of channels stays as it is
        centred=calibrated.centred,
        split_feeds=is_few(feeds),
        seed=seed,
    )
    return Replacement(fit.chain, fit.error)


def _checked_pairs(layer: str, pairs: Iterable[InputPair]) -> Iterator[InputPair]:
    """The pairs; raises BadData where the original inputs are NaN, infinite or too large."""
    for pair in pairs:
        check_finite(layer, pair.original)
        yield pair


def refit(
    layer: Layer,
    chain: Sequence[Layer],
    fed: Iterable[InputPair],
    samples: int,
    *,
    inner: bool = True,
    centred: bool = True,
    split_feeds: bool = False,
    seed: int = 0,
) -> FittedChain:
    """The chain with its factors and, where `centred`, its bias fitted.

    fed: inputs of the layer in the original model and of the chain in the cut one, feed by feed. samples:
    their number in all. inner: also fit the factors before the last, where the layer's patches are small
    enough. split_feeds: see `normal_equations`.
    """
    whole = inner and _fits_in_memory(layer)
    mixers = () if whole else patch_mixers(layer, compose(chain[:-1]), chain[-1])
    sums = normal_equations(layer, fed, samples, mixers=mixers, split_feeds=split_feeds, seed=seed)
    rows = FitRows.of(*sums, samples, centred=centred)
    return (fit_all if whole else fit_last)(layer, chain, rows)


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
    """For each layer and method, the ratio of the error after a fit to the error predicted without one.

    trials: for each layer, the steps to try. One layer of each kind is fitted alone, at the ranks of its
    trial, to its inputs in the original model, and represents all of the same size and stride. Pointwise
    layers are left out, as their chains are optimal without a fit. So are layers too large for a fit of all
    factors.
    """
    few = evenly_spaced(feeds, feeds_within(model, TRIAL_FIT_MACS))
    alike = _representatives({name: calibrated.layer for name, (calibrated, _) in trials.items()})
    stages = model.fresh_copy().paired_inputs(list(alike), few)
    found: dict[str, dict[str, float]] = {}
    for site, pairs in with_progress(stages, "trial fits", len(alike), watch):
        calibrated, steps = trials[site.name]
        fed = _checked_pairs(site.name, pairs())
        rows = FitRows.of(
            *normal_equations(calibrated.layer, fed, few.samples, split_feeds=is_few(few), seed=seed),
            few.samples,
            centred=calibrated.centred,
        )
        if rows.training:
            found |= dict.fromkeys(alike[site.name], _method_gains(calibrated, steps, rows))
    return found


def _representatives(layers: Mapping[str, Layer]) -> dict[str, list[str]]:
    """All layers of each kind that may gain from a fit, by the name of the middle one of them."""
    kinds: dict[object, list[str]] = {}
    for name, layer in layers.items():
        if not layer.transposed and not layer.is_pointwise and _fits_in_memory(layer):
            kinds.setdefault((layer.weight.shape, layer.groups, layer.stride), []).append(name)
    return {alike[len(alike) // 2]: alike for alike in kinds.values()}


def _method_gains(calibrated: CalibratedLayer, steps: Sequence[PlanStep], rows: FitRows) -> dict[str, float]:
    """For each step's method, the error after a fit / the error predicted without one."""
    found = {}
    for step in steps:
        predicted = calibrated.error(step.method, [step.rank])[0]
        fit = fit_all(
            calibrated.layer, calibrated.chain(step.method, step.rank), rows, effort=TRIAL_FIT_EFFORT
        )
        found[step.method] = fit.error / predicted if predicted else 1.0
    return found
