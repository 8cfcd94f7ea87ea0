"""What samples say about a model's layers: what each is fed, and how much its errors matter at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from modelsurgeon.aware import View
from modelsurgeon.data import Batches, Feed
from modelsurgeon.factorize import compose
from modelsurgeon.layer import Array
from modelsurgeon.moments import Inputs, Watch, check_fed
from modelsurgeon.plan import Step
from modelsurgeon.progress import Progress, counted
from modelsurgeon.surgery import Patient, Run, Site

TRIED = 8  # feeds on which the outputs are watched while one layer is cut
LEAST = 1e-8  # of a squared error: below, what comes out is rounding


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """inputs: what each layer is fed. weight: squared error at the outputs for that of a layer's own outputs.

    A layer that neither of them names is judged by its weight alone.
    """

    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    weight: Mapping[str, float] = field(default_factory=dict)

    def view(self, site: Site) -> View:
        """The layer at a site as calibration sees it."""
        return View(layer=site.layer, inputs=self.inputs.get(site.name))


def watch(patient: Patient, sites: Sequence[Site], feeds: Batches, *, seed: int = 0) -> dict[str, Inputs]:
    """What each site is fed, from one pass over the feeds. Raises BadData for what no moment can hold."""
    watches = {
        site.name: Watch(site.layer, feeds.samples, whole=site.makers is not None, seed=seed)
        for site in sites
    }
    for name, x in patient.observe(list(watches), feeds):
        check_fed(name, x)
        watches[name].add(x)
    return {name: each.done() for name, each in watches.items()}


def sensitivity(
    patient: Patient,
    trials: Mapping[str, tuple[View, Step]],
    feeds: Batches,
    *,
    watch: Progress | None = None,
) -> dict[str, float]:
    """For each layer, the squared error at the outputs that its own squared error makes: both relative.

    Each layer is cut alone, as its trial says, in a net that is whole otherwise; an output's error is the
    largest over the outputs.
    """
    few = list(islice(feeds, 0, None, max(1, len(feeds) // TRIED)))[:TRIED]
    whole = _answers(patient.twin().runner(), few)
    found = {}
    for name, (view, step) in counted(trials.items(), "sensitivity", len(trials), watch):
        own = view.error(step.method, [step.rank])[0] ** 2
        if own > LEAST:
            found[name] = squared_error(whole, _answers(_cut(patient, name, view, step), few)) / own
    return found


def _cut(patient: Patient, name: str, view: View, step: Step) -> Run:
    """The net with one layer replaced by the layer that its chain equals."""
    twin = patient.twin()
    site = next(site for site in twin.sites if site.name == name)
    site.replace([compose(view.chain(step.method, step.rank))])
    return twin.runner()


def _answers(run: Run, feeds: Iterable[Feed]) -> list[Mapping[str, Array]]:
    return [run(feed) for feed in feeds]


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
