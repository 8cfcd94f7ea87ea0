"""One model under compression: its sites, what is known of them, and how plans are carried out and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.output_errors import squared_error
from modelsurgeon.calibration.sensitivity import Calibration, collect_moments, sensitivity
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
from modelsurgeon.compression.compressibility import compressibility
from modelsurgeon.compression.latency_model import (
    Times,
    chain_times,
    timed_candidates,
    timed_channel_cuts,
    timed_shared_inputs,
)
from modelsurgeon.compression.outlook import Outlook
from modelsurgeon.compression.refit.refit import install_fitted, refit_gains
from modelsurgeon.compression.select import Candidate
from modelsurgeon.data import Batches
from modelsurgeon.data.samples import train_and_validation
from modelsurgeon.factorize import METHODS
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.layers import Layer
from modelsurgeon.layers.random_weights import with_random_weights
from modelsurgeon.progress import Progress, with_progress
from modelsurgeon.surgery.apply import Replacement, apply_plan, factorize_weight, install
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import EditableModel, LayerTiming, Site, all_sites, find_site, in_model_order


@dataclass(frozen=True, kw_only=True)
class Options:
    """The candidates of every layer, edits for those that can't be factorized, and notes for the report."""

    candidates: dict[str, list[Candidate]]
    broken: Sequence[FactorizationEdit] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """model: the original; trials are made on fresh copies. sites: the layers that may be replaced.

    shared_input_sites: those of them that are fed the same, taken as one. calibration_data: None without
    samples. held_out: samples to compare on, None where the model isn't run. refit: fit the factors to the
    calibration data. skipped: edits for the layers that are skipped whatever the goal. watch: called with
    progress. block: ranks that are chosen are multiples of it.
    """

    model: EditableModel
    sites: Sequence[Site]
    shared_input_sites: Sequence[Site] = ()
    methods: Sequence[str]
    calibration_data: Batches | None
    held_out: Batches | None
    refit: bool
    seed: int
    skipped: Sequence[FactorizationEdit] = ()
    calibration: Calibration = field(default_factory=Calibration)
    watch: Progress | None = None
    block: int = RANK_BLOCK

    def calibrated(self) -> Study:
        """The same study with the moments of every layer's inputs, where there is calibration data."""
        if self.calibration_data is None:
            return self
        feeds = self._counted(train_and_validation(self.calibration_data)[0], "calibration")
        inputs = collect_moments(self.model, self.sites, feeds, seed=self.seed)
        return replace(self, calibration=Calibration(inputs=inputs))

    @property
    def layer_timer(self) -> LayerTiming | None:
        """A function that times layers; None where nothing is run, or only the whole model can be."""
        return None if self.held_out is None else self.model.layer_timer()

    @property
    def places(self) -> list[Site]:
        """All sites that a plan may name here, in the order of the model."""
        return in_model_order(self.sites, self.shared_input_sites)

    @property
    def layers(self) -> dict[str, tuple[Site, CalibratedLayer]]:
        """Every site with its calibrated layer, by name."""
        return {site.name: (site, self.calibration.layer(site)) for site in self.places}

    def options(self, resource: Resource) -> Options:
        """Every layer's candidates, edits for layers that can't be factorized, and notes on the choice.

        With calibration data, a candidate's damage is the squared error at the outputs of the model.
        """
        found, broken = candidates_by_site(
            with_progress(self.places, "candidates", len(self.places), self.watch),
            self.methods,
            resource,
            self.calibration,
            block=self.block,
        )
        if self.calibration_data is None:
            return Options(candidates=found, broken=broken)
        layers = {name: layer for name, (_, layer) in self.layers.items()}
        tried = {name: (layers[name], step) for name, step in trial_steps(found).items()}
        validation = train_and_validation(self.calibration_data)[1]
        found_sensitivity = sensitivity(self.model, tried, validation, watch=self.watch)
        if self.refit:
            fits = {name: (layers[name], steps) for name, steps in trial_fit_steps(found).items()}
            gains = refit_gains(self.model, fits, self.calibration_data, seed=self.seed, watch=self.watch)
            found = with_refit_gain(found, gains)
        weighted = weighted_by_sensitivity(found, found_sensitivity.weights)
        return Options(candidates=weighted, broken=broken, notes=found_sensitivity.notes)

    def timed(
        self, found: Mapping[str, Sequence[Candidate]], timer: LayerTiming
    ) -> dict[str, list[Candidate]]:
        """The candidates with their milliseconds; layers that can't be timed are left out."""
        layers, timed = self.layers, {}
        for site in with_progress(self.sites, "times", len(self.sites), self.watch):
            if site.name in found and (some := timed_candidates(*layers[site.name], found[site.name], timer)):
                timed[site.name] = some
        whole = {name: some[0].milliseconds or 0.0 for name, some in timed.items()}
        single = {
            name: [*some, *timed_channel_cuts(*layers[name], found[name], timer, whole)]
            for name, some in timed.items()
        }
        shared = [site.name for site in self.shared_input_sites if site.name in found]
        return single | {
            name: timed_shared_inputs(*layers[name], found[name], timer, whole) for name in shared
        }

    def times(self, plan: Plan) -> Times:
        """Milliseconds of the plan's layers and of the chains in their place, where they can be measured."""
        timer = self.layer_timer
        return {} if timer is None else chain_times(plan, self.layers, timer)

    def own_errors(self, edits: Sequence[FactorizationEdit], decision: Decision) -> list[FactorizationEdit]:
        """The edits with the error of each layer's outputs if it alone were cut, given calibration data."""
        if self.calibration_data is None:
            return list(edits)
        return [replace(e, own_error=self._own_error(e, decision)) if not e.skipped else e for e in edits]

    def _own_error(self, edit: FactorizationEdit, decision: Decision) -> float | None:
        if edit.layer in decision.errors or edit.method is None or edit.rank is None:
            return decision.errors.get(edit.layer)
        layer = self.calibration.layer(find_site(self.model, edit.layer))
        return layer.error(edit.method, [edit.rank])[0]

    def outlook(
        self, decision: Decision, edits: Sequence[FactorizationEdit], predicted: float | None
    ) -> Outlook | None:
        """What the decision will cost, before it is carried out; None where sizes aren't known."""
        before = self.model.totals()
        if before is None or "macs" not in before:
            return None
        found = decision.options or candidates_by_site(self.sites, self.methods, "macs", self.calibration)[0]
        evidence = compressibility(self.sites, found, before["macs"], edits, predicted)
        return Outlook(compressibility=evidence)

    def carry_out(self, plan: Plan, model: EditableModel) -> list[FactorizationEdit]:
        """Carry out the plan on a model; one edit per step, and one per layer that loses channels."""
        if self.calibration_data is not None and self.refit:
            edits = install_fitted(
                plan, model, self.calibration, self.calibration_data, seed=self.seed, watch=self.watch
            )
        else:
            edits = apply_plan(
                plan, [site for site in all_sites(model) if site.name in plan], self._factorize
            )
        return [*edits, *_remove_channels(plan, model)]

    def sketch(self, plan: Plan) -> list[FactorizationEdit]:
        """The edits that the plan would make, from weights and shapes alone: no factor is computed."""
        edits = [sketch_edit(site, plan[site.name]) for site in self.places if site.name in plan]
        return [*edits, *(_remove_channels(plan, self._randomized(plan)) if _channel_cuts(plan) else [])]

    def trial(self, plan: Plan) -> EditableModel:
        """A fresh copy on which the plan was carried out."""
        fresh = self.model.fresh_copy()
        self.carry_out(plan, fresh)
        fresh.tidy()
        return fresh

    def timing_model(self, plan: Plan) -> EditableModel:
        """A fresh copy with the plan's chains and random weights: it takes as long as the real one will."""
        fresh = self._randomized(plan)
        _remove_channels(plan, fresh)
        fresh.tidy()
        return fresh

    def latency(self, changed: EditableModel, *, repeats: int = 50) -> dict[str, Any] | None:
        """Latency of the original and of a changed model, timed in turn; None where nothing is timed."""
        if self.held_out is None or self.layer_timer is None:
            return None
        return self.model.fresh_copy().latency(changed, self.held_out, repeats=repeats)

    def rows_per_channel(self, plan: Plan) -> dict[str, float]:
        """Calibration rows per channel whose moments they give, for the layers that a plan calibrates."""
        found = {site.name: self.calibration.moments(site) for site in self.places if site.name in plan}
        return {
            name: moments.channels[0].count / len(moments.channels[0].total)
            for name, moments in found.items()
            if moments is not None and moments.channels
        }

    def predict_error(self, changed: EditableModel) -> float | None:
        """Relative L2 to expect at the outputs, measured on validation samples; None without any."""
        if self.calibration_data is None:
            return None
        ours, theirs = self.model.fresh_copy().runner(), changed.runner()
        feeds = list(train_and_validation(self.calibration_data)[1])
        error = squared_error([ours(feed) for feed in feeds], [theirs(feed) for feed in feeds])
        return float(error**0.5)

    def compare(self, changed: EditableModel, tolerance: float | None = None) -> Comparison | None:
        """The changed model compared with the original on the held-out samples; None where nothing is run."""
        if self.held_out is None:
            return None
        original = self.model.fresh_copy()
        return compare_runs(
            original.runner(),
            changed.runner(),
            self._counted(self.held_out, "comparison"),
            rerun_a=original.runner(reference=True),
            tolerance=tolerance,
            asked=tolerance is not None,
            random=self.model.random_operators,
        )

    def _counted(self, feeds: Batches, what: str) -> Batches:
        """The feeds; `watch` is called with how many of them have been used."""
        return replace(feeds, make=lambda: iter(with_progress(feeds.make(), what, len(feeds), self.watch)))

    def _randomized(self, plan: Plan) -> EditableModel:
        fresh = self.model.fresh_copy()
        for site in all_sites(fresh):
            if step := plan.get(site.name):
                install(site, step, self._random_chain(site, step))
        return fresh

    def _random_chain(self, site: Site, step: PlanStep) -> Sequence[Layer]:
        if METHODS[step.method].alone:
            return with_random_weights(self.calibration.layer(site).sketch(step.method, step.rank))
        return factorize_weight(site, step).chain  # weights of channels left out must be zero, to be removed

    def _factorize(self, site: Site, step: PlanStep) -> Replacement:
        return Replacement(self.calibration.layer(site).chain(step.method, step.rank))


def _remove_channels(plan: Plan, model: EditableModel) -> list[FactorizationEdit]:
    """Remove the channels that the plan leaves out from the layers that produce them."""
    cut = _channel_cuts(plan)
    return model.remove_channels(cut) if cut else []


def _channel_cuts(plan: Plan) -> list[str]:
    """The layers that take fewer channels."""
    return [name for name, step in plan.items() if not METHODS[step.method].alone]


def predicted_totals(
    before: Mapping[str, int] | None, edits: Sequence[FactorizationEdit]
) -> dict[str, int] | None:
    """MACs and params after a dry run: those before, less what the edits save."""
    if before is None:
        return None
    saved = {
        key: sum((getattr(e, f"{key}_before") or 0) - (getattr(e, f"{key}_after") or 0) for e in edits)
        for key in ("macs", "params")
    }
    return {key: before[key] - saved[key] for key in saved}
