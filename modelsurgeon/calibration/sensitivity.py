"""Moments of every layer's inputs, and the sensitivity of the model's outputs to the errors of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import InputMoments, MomentCollector, check_finite
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
SOFTMAX_SUM_TOLERANCE = 1e-2  # distance from 1 of the sum of a softmax, in half precision


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
        """The layer at a site with its input moments; for a shared-input site those of its first member."""
        measured, *_ = *site.members, site.name
        return CalibratedLayer(layer=site.layer, inputs=self.inputs.get(measured))


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


def sensitivity(
    model: EditableModel,
    trials: Mapping[str, tuple[CalibratedLayer, PlanStep]],
    feeds: Batches,
    *,
    watch: Progress | None = None,
) -> dict[str, float]:
    """For each layer, the squared error at the model's outputs per squared error of its own outputs.

    Both are relative. Each layer is cut alone, as its trial says, in a model that is unchanged otherwise; the
    error counts at the output where it is largest. The error of a softmax is that of its inputs, the scores:
    where one class has nearly all probability, its outputs show an error only once the class changes. Layers
    whose own error is below rounding are left out.
    """
    few = list(evenly_spaced(feeds, feeds_within(model, TRIAL_MACS / max(1, len(trials)))))
    original = _compared_outputs(model.fresh_copy().runner(), few)
    found = {}
    for name, (calibrated, step) in with_progress(trials.items(), "sensitivity", len(trials), watch):
        own = calibrated.error(step.method, [step.rank])[0] ** 2
        if own > MIN_SQUARED_ERROR:
            found[name] = (
                squared_error(
                    original, _compared_outputs(_runner_with_cut(model, name, calibrated, step), few)
                )
                / own
            )
    return found


def feeds_within(model: EditableModel, macs: float) -> int:
    """Number of feeds on which the model can be run with so many MACs; at least MIN_TRIAL_FEEDS."""
    model_macs = (model.totals() or {}).get("macs") or 1
    return max(MIN_TRIAL_FEEDS, int(macs / model_macs))


def _runner_with_cut(model: EditableModel, name: str, calibrated: CalibratedLayer, step: PlanStep) -> Run:
    """Runner of the model with one layer replaced by the layer that its chain equals."""
    fresh = model.fresh_copy()
    find_site(fresh, name).replace([compose(calibrated.chain(step.method, step.rank))])
    return fresh.runner()


def _compared_outputs(run: Run, feeds: Iterable[Feed]) -> list[Mapping[str, Array]]:
    """Outputs by name for each feed, those of a softmax replaced by its scores."""
    return [{name: softmax_scores(np.asarray(value)) for name, value in run(feed).items()} for feed in feeds]


def softmax_scores(output: Array) -> Array:
    """The scores fed to a softmax, about their mean, where the output is that of one; else the output itself.

    The output of a softmax is recognized by its sums, which are 1 along one of the axes. The result has the
    same shape.
    """
    if output.dtype.kind != "f" or not output.size or output.min() < 0:
        return output
    for axis in reversed(range(output.ndim)):
        if output.shape[axis] > 1 and np.allclose(
            output.sum(axis, dtype=np.float64), 1, rtol=0, atol=SOFTMAX_SUM_TOLERANCE
        ):
            logs = np.log(np.maximum(output, np.finfo(output.dtype).tiny), dtype=np.float64)
            centred: Array = logs - logs.mean(axis, keepdims=True)
            return centred
    return output


def squared_error(original: Sequence[Mapping[str, Array]], changed: Sequence[Mapping[str, Array]]) -> float:
    """Squared relative L2 error over all feeds, of the float output where it is largest; 0 without any."""
    worst = 0.0
    for name, first in original[0].items():
        if np.asarray(first).dtype.kind != "f":
            continue
        before = [np.asarray(outputs[name], np.float64) for outputs in original]
        after = [np.asarray(outputs[name], np.float64) for outputs in changed]
        energy = sum(float(np.square(a).sum()) for a in before)
        lost = sum(float(np.square(a - b).sum()) for a, b in zip(before, after, strict=True))
        worst = max(worst, lost / energy if energy else 0.0)
    return worst
