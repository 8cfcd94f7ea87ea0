"""One model under compression: its sites, what is known of it, and how a plan is carried out and judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelsurgeon.calibrate import Calibration, sensitivity, squared_error, watch
from modelsurgeon.candidates import Resource, options, trials, weighed
from modelsurgeon.compare import Comparison
from modelsurgeon.compare import compare as compare_runs
from modelsurgeon.data import Batches, Feed
from modelsurgeon.factorize import METHODS
from modelsurgeon.layer import Layer
from modelsurgeon.plan import Plan, Step
from modelsurgeon.progress import Progress, counted
from modelsurgeon.refit import HELD_OUT, fitted
from modelsurgeon.select import Candidate
from modelsurgeon.surgery import Edit, Patient, Site, apply


@dataclass(frozen=True, kw_only=True)
class Study:
    """patient: the model as it is; trials are its twins. sites: the layers that may be replaced.

    learned: samples to calibrate on, None where there are none but noise. judged: samples to compare on, None
    where the model isn't run. refit: fit the factors to the learned samples. left_out: the layers that are
    left alone whatever is asked for. watch: told how much is done.
    """

    patient: Patient
    sites: Sequence[Site]
    methods: Sequence[str]
    learned: Batches | None
    judged: Batches | None
    refit: bool
    seed: int
    left_out: Sequence[Edit] = ()
    calibration: Calibration = field(default_factory=Calibration)
    watch: Progress | None = None

    def watched(self) -> Study:
        """The same study with what every layer is fed, where there are samples to learn that from."""
        if self.learned is None:
            return self
        feeds = self._told(self.learned, "calibration")
        inputs = watch(self.patient, self.sites, feeds, seed=self.seed)
        return replace(self, calibration=Calibration(inputs=inputs))

    def options(self, resource: Resource) -> tuple[dict[str, list[Candidate]], list[Edit]]:
        """Every layer's candidates; with samples, their damage is that to the outputs."""
        found, broken = options(
            counted(self.sites, "candidates", len(self.sites), self.watch),
            self.methods,
            resource,
            self.calibration,
        )
        if self.learned is None:
            return found, broken
        views = {site.name: self.calibration.view(site) for site in self.sites}
        tried = {name: (views[name], step) for name, step in trials(found, resource).items()}
        return weighed(found, sensitivity(self.patient, tried, self.learned, watch=self.watch)), broken

    def perform(self, plan: Plan, patient: Patient, *, quick: bool = False) -> list[Edit]:
        """Do what the plan says to a patient; quick: with factors as they come, where only costs matter."""
        if self.learned is not None and self.refit and not quick:
            edits = fitted(plan, patient, self.calibration, self.learned, seed=self.seed, watch=self.watch)
        else:
            edits = apply(plan, [site for site in patient.sites if site.name in plan], self._chain)
        cut = [name for name, step in plan.items() if not METHODS[step.method].alone]
        return [*edits, *patient.narrow(cut)] if cut else edits

    def trial(self, plan: Plan, *, quick: bool = False) -> Patient:
        """A twin to which the plan was done."""
        twin = self.patient.twin()
        self.perform(plan, twin, quick=quick)
        twin.close()
        return twin

    def predicted(self, changed: Patient) -> float | None:
        """Relative L2 that is to be expected at the outputs: on samples that judged the fit."""
        if self.learned is None:
            return None
        ours, theirs = self.patient.twin().runner(), changed.runner()
        few = list(_judges(self.learned))
        error = squared_error([ours(feed) for feed in few], [theirs(feed) for feed in few])
        return float(error**0.5)

    def compared(self, changed: Patient, tolerance: float | None = None) -> Comparison | None:
        """The changed model held against the original on the judged samples."""
        if self.judged is None:
            return None
        twin = self.patient.twin()
        return compare_runs(
            twin.runner(),
            changed.runner(),
            self._told(self.judged, "comparison"),
            rerun_a=twin.runner(reference=True),
            tolerance=tolerance,
        )

    def _told(self, feeds: Batches, what: str) -> Batches:
        """The feeds, with the watch told how many of them have been used."""
        return replace(feeds, make=lambda: iter(counted(feeds.make(), what, len(feeds), self.watch)))

    def _chain(self, site: Site, step: Step) -> list[Layer]:
        return self.calibration.view(site).chain(step.method, step.rank)


def _judges(feeds: Batches) -> Iterator[Feed]:
    """The feeds to which nothing is fitted; all where they are too few to leave any out."""
    every = HELD_OUT if len(feeds) >= HELD_OUT else 1
    return (feed for number, feed in enumerate(feeds) if number % every == every - 1)


def totals_foretold(before: Mapping[str, int] | None, edits: Sequence[Edit]) -> dict[str, int] | None:
    """Totals after a dry run: only what the edits change in MACs and params is foretold."""
    if before is None:
        return None
    saved = {
        key: sum((getattr(e, f"{key}_before") or 0) - (getattr(e, f"{key}_after") or 0) for e in edits)
        for key in ("macs", "params")
    }
    return {key: before[key] - saved[key] for key in saved}
