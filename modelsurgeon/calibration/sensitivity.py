"""Moments of every layer's inputs, and the sensitivity of the model's outputs to the errors of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import InputMoments, MomentCollector, check_finite
from modelsurgeon.calibration.output_errors import ScoreFunction, score_function, squared_errors
from modelsurgeon.data import Batches, Feed
from modelsurgeon.data.samples import evenly_spaced
from modelsurgeon.factorize import compose
from modelsurgeon.layers import Array
from modelsurgeon.progress import Progress, with_progress
from modelsurgeon.surgery.plan import PlanStep
from modelsurgeon.surgery.site import EditableModel, Run, Site, find_site

MIN_TRIAL_FEEDS = 8  # feeds on which outputs are compared while one layer is cut
TRIAL_MACS = 2e12  # MACs of all trials together, which limit the number of feeds
MIN_SQUARED_ERROR = 1e-8  # of a layer's outputs: below, the error at the model's outputs is rounding
MAX_ROUNDING = 1e-12  # squared relative error of outputs: up to here they are as before
MAX_SQUARED_ERROR = 1e6  # squared relative error that a value that is no longer finite counts as


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Moments and sensitivities by layer name.

    inputs: moments of each layer's inputs. weight: squared error at the model's outputs per squared error of
    the layer's own outputs, both relative. Errors of a layer that `inputs` doesn't name are those of its
    weight.
    """

    inputs: Mapping[str, InputMoments] = field(default_factory=dict)
    weight: Mapping[str, float] = field(default_factory=dict)

    def layer(self, site: Site) -> CalibratedLayer:
        """The layer at a site with its input moments."""
        return CalibratedLayer(layer=site.layer, inputs=self.moments(site))

    def moments(self, site: Site) -> InputMoments | None:
        """The input moments of a site; those of its first member for a shared-input site."""
        measured, *_ = *site.members, site.name
        return self.inputs.get(measured)


def collect_moments(
    model: EditableModel, sites: Sequence[Site], feeds: Batches, *, seed: int = 0
) -> dict[str, InputMoments]:
    """Moments of every site's inputs, from one pass over the feeds.

    Raises BadData for inputs that are NaN, infinite or too large.
    """
    shared = {site.members[0] for site in model.shared_input_sites}
    collectors = {
        site.name: MomentCollector(
            site.layer, feeds.samples, of_inputs=site.producers is not None or site.name in shared, seed=seed
        )
        for site in sites
    }
    for name, x in model.layer_inputs(list(collectors), feeds):
        check_finite(name, x)
        collectors[name].add(x)
    return {name: collector.moments() for name, collector in collectors.items()}


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """weights: by layer, the squared error at the model's outputs per squared error of its own outputs.

    unmoved: outputs that stay as they are whichever layer is cut, and those without a finite element.
    """

    weights: Mapping[str, float]
    unmoved: Sequence[str] = ()

    @property
    def notes(self) -> list[str]:
        """A warning about outputs on which no error can be seen."""
        if not self.unmoved or not self.weights:
            return []
        names = ", ".join(map(repr, self.unmoved[:3])) + (" and others" if len(self.unmoved) > 3 else "")
        return [
            f"no cut of a layer changes the output {names} on these samples: it is saturated, constant or "
            "not finite, so its error had no say in the choice; give samples on which it varies"
        ]


def sensitivity(
    model: EditableModel,
    trials: Mapping[str, tuple[CalibratedLayer, PlanStep]],
    feeds: Batches,
    *,
    watch: Progress | None = None,
) -> Sensitivity:
    """For each layer, the squared error at the model's outputs per squared error of its own outputs.

    Both are relative. Each layer is cut alone, as its trial says, in a model that is unchanged otherwise; the
    error counts at the output where it is largest. The error of a final softmax or sigmoid is that of its
    inputs, the scores: where they saturate, its outputs show an error only once a class changes. A layer
    whose trial changes no output has weight 1: nothing is known but its own error. Layers whose own error is
    below rounding are left out.
    """
    few = list(evenly_spaced(feeds, feeds_within(model, TRIAL_MACS / max(1, len(trials)))))
    outputs = _outputs(model.fresh_copy().runner(scores=True), few)
    functions = {name: score_function([each[name] for each in outputs]) for name in outputs[0]}
    original = _scores(outputs, functions)
    weights: dict[str, float] = {}
    unmoved = dict.fromkeys(original[0])
    for name, (calibrated, step) in with_progress(trials.items(), "sensitivity", len(trials), watch):
        own = calibrated.error(step.method, [step.rank])[0] ** 2
        if own > MIN_SQUARED_ERROR:
            changed = _outputs(_runner_with_cut(model, name, calibrated, step), few)
            errors = squared_errors(original, _scores(changed, functions))
            moved = {output: error for output, error in errors.items() if error > MAX_ROUNDING}
            weights[name] = min(max(moved.values()), MAX_SQUARED_ERROR) / own if moved else 1.0
            for output in moved:
                unmoved.pop(output, None)
    return Sensitivity(weights=weights, unmoved=list(unmoved))


def feeds_within(model: EditableModel, macs: float) -> int:
    """Number of feeds on which the model can be run with so many MACs; at least MIN_TRIAL_FEEDS."""
    model_macs = (model.totals() or {}).get("macs") or 1
    return max(MIN_TRIAL_FEEDS, int(macs / model_macs))


def _runner_with_cut(model: EditableModel, name: str, calibrated: CalibratedLayer, step: PlanStep) -> Run:
    """Runner of the model with one layer replaced by the layer that its chain equals."""
    fresh = model.fresh_copy()
    find_site(fresh, name).replace([compose(calibrated.chain(step.method, step.rank))])
    return fresh.runner(scores=True)


def _outputs(run: Run, feeds: Iterable[Feed]) -> list[dict[str, Array]]:
    """Outputs by name for each feed."""
    return [{name: np.asarray(value) for name, value in run(feed).items()} for feed in feeds]


def _scores(
    outputs: Sequence[Mapping[str, Array]], of: Mapping[str, ScoreFunction]
) -> list[dict[str, Array]]:
    return [{name: of[name](value) for name, value in each.items()} for each in outputs]
