"""One model under compression: its sites, what is known of it, and how a plan is carried out and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.sensitivity import Calibration, collect_moments, sensitivity, squared_error
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.comparison.compare import compare as compare_runs
from modelsurgeon.compression.candidates import (
    Decision,
    Resource,
    candidates_by_site,
    sketch_edit,
    trial_fit_steps,
    trial_steps,
    weighted_by_sensitivity,
    with_refit_gain,
)
from modelsurgeon.compression.latency_model import (
    Times,
    chain_times,
    timed_candidates,
    timed_channel_cuts,
    timed_shared_inputs,
)
from modelsurgeon.compression.outlook import Outlook, outlook
from modelsurgeon.compression.refit.refit import install_fitted, refit_gains
from modelsurgeon.compression.select import Candidate
from modelsurgeon.data import Batches
from modelsurgeon.data.samples import train_and_validation
from modelsurgeon.factorize import METHODS
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.layers import Layer
from modelsurgeon.layers.random_weights import with_random_weights
from modelsurgeon.progress import Progress, counted
from modelsurgeon.surgery.apply import apply, factorize_step, install
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import EditableModel, LayerTiming, Site, all_sites, find_site, in_model_order


@dataclass(frozen=True, kw_only=True)
class Study:
    """model: the original; trials are made on fresh copies. sites: the layers that may be replaced.

    shared_input_sites: those of them that are fed the same, taken as one. calibration_data: None without
    samples. held_out: samples to compare on, None where the model isn't run. refit: fit the factors.
    left_out: the layers that are left alone whatever is asked for. watch: told how much is done. block: what
    chosen ranks are multiples of.
    """

    model: EditableModel
    sites: Sequence[Site]
    shared_input_sites: Sequence[Site] = ()
    methods: Sequence[str]
    calibration_data: Batches | None
    held_out: Batches | None
    refit: bool
    seed: int
    left_out: Sequence[FactorizationEdit] = ()
    calibration: Calibration = field(default_factory=Calibration)
    watch: Progress | None = None
    block: int = RANK_BLOCK

    def watched(self) -> Study:
        """The same study with what every layer is fed, where there are samples to learn that from."""
        if self.calibration_data is None:
            return self
        feeds = self._told(train_and_validation(self.calibration_data)[0], "calibration")
        inputs = collect_moments(self.model, self.sites, feeds, seed=self.seed)
        return replace(self, calibration=Calibration(inputs=inputs))

    @property
    def layer_timer(self) -> LayerTiming | None:
        """What times layers; None where nothing is run, or only the whole model can be."""
        return None if self.held_out is None else self.model.layer_timer()

    def options(self, resource: Resource) -> tuple[dict[str, list[Candidate]], list[FactorizationEdit]]:
        """Every layer's candidates; with samples, their damage is that to the outputs."""
        found, broken = candidates_by_site(
            counted(self.places, "candidates", len(self.places), self.watch),
            self.methods,
            resource,
            self.calibration,
            block=self.block,
        )
        if self.calibration_data is None:
            return found, broken
        views = {name: view for name, (_, view) in self.views.items()}
        tried = {name: (views[name], step) for name, step in trial_steps(found).items()}
        weights = sensitivity(
            self.model, tried, train_and_validation(self.calibration_data)[1], watch=self.watch
        )
        if self.refit:
            fits = {name: (views[name], steps) for name, steps in trial_fit_steps(found).items()}
            found = with_refit_gain(
                found, refit_gains(self.model, fits, self.calibration_data, seed=self.seed, watch=self.watch)
            )
        return weighted_by_sensitivity(found, weights), broken

    def timed(
        self, found: Mapping[str, Sequence[Candidate]], clock: LayerTiming
    ) -> dict[str, list[Candidate]]:
        """The candidates with their milliseconds; layers that can't be timed are left out."""
        views, timed = self.views, {}
        for site in counted(self.sites, "times", len(self.sites), self.watch):
            if site.name in found and (some := timed_candidates(*views[site.name], found[site.name], clock)):
                timed[site.name] = some
        whole = {name: some[0].milliseconds or 0.0 for name, some in timed.items()}
        narrow = {
            n: [*some, *timed_channel_cuts(*views[n], found[n], clock, whole)] for n, some in timed.items()
        }
        unions = [site.name for site in self.shared_input_sites if site.name in found]
        return narrow | {
            name: timed_shared_inputs(*views[name], found[name], clock, whole) for name in unions
        }

    def times(self, plan: Plan) -> Times:
        """Milliseconds of the plan's layers as they are and of the chains it puts there, where measured."""
        return {} if self.layer_timer is None else chain_times(plan, self.views, self.layer_timer)

    @property
    def views(self) -> dict[str, tuple[Site, CalibratedLayer]]:
        """Every site with its layer as calibration sees it."""
        return {site.name: (site, self.calibration.view(site)) for site in self.places}

    @property
    def places(self) -> list[Site]:
        """All that a plan may name here."""
        return in_model_order(self.sites, self.shared_input_sites)

    def own_errors(self, edits: Sequence[FactorizationEdit], decision: Decision) -> list[FactorizationEdit]:
        """The edits, each telling with samples what its layer alone would lose."""
        if self.calibration_data is None:
            return list(edits)
        return [replace(e, own_error=self._own_error(e, decision)) if not e.skipped else e for e in edits]

    def outlook(
        self, decision: Decision, edits: Sequence[FactorizationEdit], predicted: float | None
    ) -> Outlook | None:
        """What can be said before the cut is made; None where sizes aren't known."""
        before = self.model.totals()
        if before is None or "macs" not in before:
            return None
        found = decision.options or candidates_by_site(self.sites, self.methods, "macs", self.calibration)[0]
        return outlook(self.sites, found, before["macs"], edits, predicted)

    def _own_error(self, edit: FactorizationEdit, decision: Decision) -> float | None:
        if edit.layer in decision.errors or edit.method is None or edit.rank is None:
            return decision.errors.get(edit.layer)
        return self.calibration.view(find_site(self.model, edit.layer)).error(edit.method, [edit.rank])[0]

    def perform(self, plan: Plan, model: EditableModel) -> list[FactorizationEdit]:
        """Do what the plan says to a model."""
        if self.calibration_data is not None and self.refit:
            edits = install_fitted(
                plan, model, self.calibration, self.calibration_data, seed=self.seed, watch=self.watch
            )
        else:
            edits = apply(plan, [site for site in all_sites(model) if site.name in plan], self._chain)
        return [*edits, *_remove_channels(plan, model)]

    def sketched(self, plan: Plan) -> list[FactorizationEdit]:
        """What the plan would do, told from weights and shapes; no factor is made."""
        edits = [sketch_edit(site, plan[site.name]) for site in self.places if site.name in plan]
        return [*edits, *(_remove_channels(plan, self._hollowed(plan)) if _channel_cuts(plan) else [])]

    def trial(self, plan: Plan) -> EditableModel:
        """A fresh copy to which the plan was done."""
        fresh = self.model.fresh_copy()
        self.perform(plan, fresh)
        fresh.finish()
        return fresh

    def hollow(self, plan: Plan) -> EditableModel:
        """A fresh copy with the plan's chains, their weights noise: it takes as long as the real one will."""
        fresh = self._hollowed(plan)
        _remove_channels(plan, fresh)
        fresh.finish()
        return fresh

    def latency(self, changed: EditableModel, *, repeats: int = 50) -> dict[str, Any] | None:
        """The original and a changed model side by side; None where there is no clock."""
        if self.held_out is None or self.layer_timer is None:
            return None
        return self.model.fresh_copy().latency(changed, self.held_out, repeats=repeats)

    def predicted(self, changed: EditableModel) -> float | None:
        """Relative L2 that is to be expected at the outputs: on samples that judged the fit."""
        if self.calibration_data is None:
            return None
        ours, theirs = self.model.fresh_copy().runner(), changed.runner()
        few = list(train_and_validation(self.calibration_data)[1])
        error = squared_error([ours(feed) for feed in few], [theirs(feed) for feed in few])
        return float(error**0.5)

    def compared(self, changed: EditableModel, tolerance: float | None = None) -> Comparison | None:
        """The changed model held against the original on the judged samples."""
        if self.held_out is None:
            return None
        fresh = self.model.fresh_copy()
        return compare_runs(
            fresh.runner(),
            changed.runner(),
            self._told(self.held_out, "comparison"),
            rerun_a=fresh.runner(reference=True),
            tolerance=tolerance,
        )

    def _told(self, feeds: Batches, what: str) -> Batches:
        """The feeds, with the watch told how many of them have been used."""
        return replace(feeds, make=lambda: iter(counted(feeds.make(), what, len(feeds), self.watch)))

    def _hollowed(self, plan: Plan) -> EditableModel:
        fresh = self.model.fresh_copy()
        for site in all_sites(fresh):
            if step := plan.get(site.name):
                install(site, step, self._hollow(site, step))
        return fresh

    def _hollow(self, site: Site, step: PlanStep) -> list[Layer]:
        if METHODS[step.method].alone:
            return with_random_weights(self.calibration.view(site).sketch(step.method, step.rank))
        return factorize_step(site, step)  # what is left out must be zero, to go

    def _chain(self, site: Site, step: PlanStep) -> list[Layer]:
        return self.calibration.view(site).chain(step.method, step.rank)


def _remove_channels(plan: Plan, model: EditableModel) -> list[FactorizationEdit]:
    """What makes channels that the plan leaves out is made narrower."""
    cut = _channel_cuts(plan)
    return model.remove_channels(cut) if cut else []


def _channel_cuts(plan: Plan) -> list[str]:
    """The layers that take fewer channels."""
    return [name for name, step in plan.items() if not METHODS[step.method].alone]


def predicted_totals(
    before: Mapping[str, int] | None, edits: Sequence[FactorizationEdit]
) -> dict[str, int] | None:
    """Totals after a dry run: only what the edits change in MACs and params is foretold."""
    if before is None:
        return None
    saved = {
        key: sum((getattr(e, f"{key}_before") or 0) - (getattr(e, f"{key}_after") or 0) for e in edits)
        for key in ("macs", "params")
    }
    return {key: before[key] - saved[key] for key in saved}
