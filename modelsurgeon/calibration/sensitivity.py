"""What samples say about a model's layers: what each is fed, and how much its errors matter at the end."""

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
from modelsurgeon.progress import Progress, counted
from modelsurgeon.surgery.plan import PlanStep
from modelsurgeon.surgery.site import EditableModel, Run, Site, find_site

MIN_TRIAL_FEEDS = 8  # feeds on which the outputs are watched while one layer is cut, at least
TRIAL_MACS = 2e12  # MACs of all trials: as many feeds as they are enough for
MIN_SQUARED_ERROR = 1e-8  # of a squared error: below, what comes out is rounding
SOFTMAX_SUM_TOLERANCE = 1e-2  # how far from 1 the sum of what a softmax gives may be, in half precision


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """inputs: what each layer is fed. weight: squared error at the outputs for that of a layer's own outputs.

    A layer that neither of them names is judged by its weight alone.
    """

    inputs: Mapping[str, InputMoments] = field(default_factory=dict)
    weight: Mapping[str, float] = field(default_factory=dict)

    def view(self, site: Site) -> CalibratedLayer:
        """The layer at a site as calibration sees it."""
        watched, *_ = *site.members, site.name
        return CalibratedLayer(layer=site.layer, inputs=self.inputs.get(watched))


def collect_moments(
    model: EditableModel, sites: Sequence[Site], feeds: Batches, *, seed: int = 0
) -> dict[str, InputMoments]:
    """What each site is fed, from one pass over the feeds. Raises BadData for what no moment can hold."""
    shared = {union.members[0] for union in model.shared_input_sites}
    watches = {
        site.name: MomentCollector(
            site.layer, feeds.samples, whole=site.producers is not None or site.name in shared, seed=seed
        )
        for site in sites
    }
    for name, x in model.layer_inputs(list(watches), feeds):
        check_finite(name, x)
        watches[name].add(x)
    return {name: each.done() for name, each in watches.items()}


def sensitivity(
    model: EditableModel,
    trials: Mapping[str, tuple[CalibratedLayer, PlanStep]],
    feeds: Batches,
    *,
    watch: Progress | None = None,
) -> dict[str, float]:
    """For each layer, the squared error at the outputs that its own squared error makes: both relative.

    Each layer is cut alone, as its trial says, in a net that is whole otherwise; an output's error is the
    largest over the outputs. Of a softmax it is that of the scores which it takes: where one class has nearly
    everything, errors hide in its answer until they turn it over.
    """
    few = list(evenly_spaced(feeds, feeds_within(model, TRIAL_MACS / max(1, len(trials)))))
    whole = _answers(model.fresh_copy().runner(), few)
    found = {}
    for name, (view, step) in counted(trials.items(), "sensitivity", len(trials), watch):
        own = view.error(step.method, [step.rank])[0] ** 2
        if own > MIN_SQUARED_ERROR:
            found[name] = squared_error(whole, _answers(_runner_with_cut(model, name, view, step), few)) / own
    return found


def feeds_within(model: EditableModel, macs: float) -> int:
    """How many feeds the model can be run on with so many MACs; a few at least."""
    whole = (model.totals() or {}).get("macs") or 1
    return max(MIN_TRIAL_FEEDS, int(macs / whole))


def _runner_with_cut(model: EditableModel, name: str, view: CalibratedLayer, step: PlanStep) -> Run:
    """The net with one layer replaced by the layer that its chain equals."""
    fresh = model.fresh_copy()
    find_site(fresh, name).replace([compose(view.chain(step.method, step.rank))])
    return fresh.runner()


def _answers(run: Run, feeds: Iterable[Feed]) -> list[Mapping[str, Array]]:
    return [{name: softmax_scores(np.asarray(value)) for name, value in run(feed).items()} for feed in feeds]


def softmax_scores(answer: Array) -> Array:
    """What a softmax was fed, about its mean, where the answer is that of one; else the answer itself.

    The answer of a softmax is known by its sums, which are 1 along one of the axes.
    """
    if answer.dtype.kind != "f" or not answer.size or answer.min() < 0:
        return answer
    for axis in reversed(range(answer.ndim)):
        if answer.shape[axis] > 1 and np.allclose(
            answer.sum(axis, dtype=np.float64), 1, rtol=0, atol=SOFTMAX_SUM_TOLERANCE
        ):
            logs = np.log(np.maximum(answer, np.finfo(answer.dtype).tiny), dtype=np.float64)
            centred: Array = logs - logs.mean(axis, keepdims=True)
            return centred
    return answer


def squared_error(ours: Sequence[Mapping[str, Array]], theirs: Sequence[Mapping[str, Array]]) -> float:
    """Squared relative L2 over all feeds, of the output where it is largest; only floats are looked at."""
    worst = 0.0
    for name, first in ours[0].items():
        if np.asarray(first).dtype.kind != "f":
            continue
        before = [np.asarray(answer[name], np.float64) for answer in ours]
        after = [np.asarray(answer[name], np.float64) for answer in theirs]
        energy = sum(float(np.square(a).sum()) for a in before)
        lost = sum(float(np.square(a - b).sum()) for a, b in zip(before, after, strict=True))
        worst = max(worst, lost / energy if energy else 0.0)
    return worst
