"""Compression from end to end: sites -> candidates -> selection -> surgery -> comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelsurgeon import candidates as ways
from modelsurgeon import doors
from modelsurgeon.candidates import Decision, Resource
from modelsurgeon.compare import Comparison
from modelsurgeon.compare import compare as compare_runs
from modelsurgeon.devices import on_device
from modelsurgeon.errors import BadPlan, ToleranceExceeded, Unreachable
from modelsurgeon.factorize import METHODS
from modelsurgeon.goal import Goal
from modelsurgeon.operate import record, source
from modelsurgeon.outcome import Result
from modelsurgeon.plan import Plan
from modelsurgeon.surgery import Edit, Patient, Site, apply

if TYPE_CHECKING:
    from modelsurgeon.data import Batches

AUTO = "auto"
STEPS = 7  # of a bisection on the measured whole model: the fraction is found to about 1 %


@on_device
def compress(
    model: Any,  # noqa: ANN401 - a path, an ir.Model, an onnx.ModelProto or an nn.Module
    *,
    rank: int | str | None = None,
    energy: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    max_error: float | None = None,
    speedup: float | None = None,
    plan: Plan | Mapping[str, Any] | str | Path | None = None,
    method: str = AUTO,
    data: Any = None,  # noqa: ANN401 - see data.batches
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    compare: bool = True,
    dry_run: bool = False,
    provider: str = "cpu",
    device: str = "cpu",  # noqa: ARG001 - `on_device` reads it
) -> Result:
    """Replace layers by cheaper chains, then compare the outcome with the original.

    An ONNX model is left as it is and a new one returned; an nn.Module is edited in place, still trainable.
    Exactly one of the first seven arguments is given, see `Goal`. only, skip: globs on layer names.
    data: samples to compare on (`data.batches`); without them seeded noise is used, and the result says so.
    tolerance: raise ToleranceExceeded where relative L2 at an output is larger. compare: run and time the
    models; speedup and max_error need that. device: where large weights are factorized, see `ms.device`.
    """
    goal = Goal(
        rank=rank,
        energy=energy,
        macs=macs,
        params=params,
        max_error=max_error,
        speedup=speedup,
        plan=_read(plan),
    )
    methods = _methods(method)
    runs = (compare and not dry_run) or bool(max_error or speedup)
    patient = _on_the_table(model, data=data, shapes=shapes, dims=dims, provider=provider, runs=runs)
    twin = patient.twin()
    batches = patient.batches(seed) if runs else None
    sites, left_out = _chosen(patient, only, skip)
    decision = _decide(goal, patient, sites, methods, batches)
    before = patient.totals()
    if dry_run:
        edits = [ways.sketched(s, decision.plan[s.name]) for s in sites if s.name in decision.plan]
        after, finished, comparison, latency = _foretold(before, edits), None, None, None
    else:
        with _undone_on_failure(patient):
            edits = apply(decision.plan, sites)
            after, finished = patient.totals(), patient.close()
            comparison = _compared(twin, patient, batches, tolerance) if batches is not None else None
            changed = any(edit.skipped is None for edit in edits)
            latency = twin.latency(patient, batches) if batches is not None and changed else None
        if not doors.is_module(model):
            record(finished, "compress", _told(goal, method, only, skip), source(model), comparison)
    return Result(
        model=finished,
        before=before,
        after=after,
        edits=_in_order(patient, [*edits, *decision.kept, *left_out]),
        comparison=comparison,
        latency=latency,
        plan=decision.plan,
        notes=[*patient.notes, *_notes(batches, comparison, latency)],
    )


def _told(goal: Goal, method: str, only: Sequence[str], skip: Sequence[str]) -> dict[str, Any]:
    """What a history tells of a compression: what was asked for, never where it lies."""
    chosen = {"method": method if method != AUTO else None, "only": list(only), "skip": list(skip)}
    asked = {**vars(goal), "plan": goal.plan.as_dict() if goal.plan else None, **chosen}
    return {name: value for name, value in asked.items() if value}


@contextmanager
def _undone_on_failure(patient: Patient) -> Iterator[None]:
    """A module that is edited in place comes out whole or not at all, whatever ends the operation."""
    try:
        yield
    except BaseException:
        patient.undo()
        raise


def _on_the_table(model: Any, *, data: Any, shapes: Any, **how: Any) -> Patient:  # noqa: ANN401
    if doors.is_module(model):
        from modelsurgeon.torch.patient import TorchPatient

        return TorchPatient(model, data=data, shapes=shapes)
    from modelsurgeon.onnx.patient import OnnxPatient

    return OnnxPatient(doors.graph(model), data=data, shapes=shapes, **how)


def _read(plan: Plan | Mapping[str, Any] | str | Path | None) -> Plan | None:
    if plan is None or isinstance(plan, Plan):
        return plan
    return Plan.read(plan) if isinstance(plan, str | Path) else Plan.from_dict(plan)


def _methods(method: str) -> list[str]:
    if method != AUTO and method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {AUTO}, {', '.join(METHODS)}")
    return list(METHODS) if method == AUTO else [method]


def _chosen(patient: Patient, only: Sequence[str], skip: Sequence[str]) -> tuple[list[Site], list[Edit]]:
    """The sites that the globs leave, and an edit for every layer that is left alone by now."""
    for glob in (*only, *skip):
        if not any(fnmatchcase(name, glob) for name in patient.names):
            raise BadPlan(f"no layer is called {glob!r}; `info` prints the names")
    kept = []
    sites = []
    for site in patient.sites:
        if only and not any(fnmatchcase(site.name, glob) for glob in only):
            kept.append(Edit(layer=site.name, skipped="not among those asked for (--only)"))
        elif any(fnmatchcase(site.name, glob) for glob in skip):
            kept.append(Edit(layer=site.name, skipped="left out as asked (--skip)"))
        else:
            sites.append(site)
    return sites, [*patient.skipped, *kept]


def _decide(
    goal: Goal, patient: Patient, sites: Sequence[Site], methods: Sequence[str], batches: Batches | None
) -> Decision:
    """The plan that the goal asks for."""
    if goal.plan is not None:
        return _replayed(goal.plan, patient, sites)
    if goal.rank is not None:
        return ways.by_rank(sites, goal.rank, methods)
    if goal.energy is not None:
        return ways.by_energy(sites, goal.energy, methods)
    resource: Resource = "macs" if goal.params is None else "params"
    options, broken = ways.options(sites, methods, resource)
    total = patient.total(resource)
    fraction = goal.macs if goal.params is None else goal.params

    def at(fraction: float) -> Decision:
        decision = ways.by_budget(options, fraction, total, resource)
        return replace(decision, kept=[*decision.kept, *broken])

    if fraction is not None:
        return at(fraction)
    if batches is None:
        raise ValueError(
            "max_error and speedup are measured on the whole model: data must be there to run it"
        )
    least = ways.least(options, total, resource)
    return _measured(goal, patient, at, least, batches)


def _replayed(plan: Plan, patient: Patient, sites: Sequence[Site]) -> Decision:
    """A plan as given; its layers that can't be replaced here have their reason among the edits already."""
    if odd := [name for name in plan if name not in patient.names]:
        raise BadPlan(f"the plan names {odd[0]!r}, and the model has no such layer; `info` prints the names")
    kept = [Edit(layer=s.name, skipped="the plan doesn't name it") for s in sites if s.name not in plan]
    here = {site.name for site in sites}
    return Decision(plan=Plan({name: step for name, step in plan.items() if name in here}), kept=kept)


def _measured(
    goal: Goal, patient: Patient, at: Callable[[float], Decision], least: float, batches: Batches
) -> Decision:
    """Bisect the fraction of MACs on what the whole model, so compressed, is measured to do."""
    original = patient.twin()

    def holds(decision: Decision) -> bool:
        trial = patient.twin()
        apply(decision.plan, trial.sites)
        trial.close()
        if goal.speedup is not None:
            timed = original.latency(trial, batches)
            if timed is None:
                raise Unreachable("a module is not timed: export it, and compress the export for a speedup")
            return bool(timed["speedup"] >= goal.speedup)
        return _compared(original, trial, batches, None).worst <= (goal.max_error or 0.0)

    low, high = least, 1.0
    best: Decision | None = None
    for _ in range(STEPS):
        fraction = (low + high) / 2
        decision = at(fraction)
        good = holds(decision)
        best = decision if good else best
        # The smallest net within the error, or the largest that is fast enough.
        if good == (goal.speedup is None):
            high = fraction
        else:
            low = fraction
    if best is None:
        asked = (
            f"{goal.speedup:g} times the speed" if goal.speedup else f"an error of at most {goal.max_error:g}"
        )
        raise Unreachable(f"no choice of ranks gave {asked}: ask for less, or allow more layers and methods")
    return best


def _compared(original: Patient, changed: Patient, batches: Batches, tolerance: float | None) -> Comparison:
    comparison = compare_runs(
        original.runner(),
        changed.runner(),
        batches,
        rerun_a=original.runner(reference=True),
        tolerance=tolerance,
    )
    if tolerance is not None and comparison.worst > tolerance:
        raise ToleranceExceeded(
            f"relative L2 at the outputs is {comparison.worst:.3g}, at most {tolerance:g} was allowed: "
            "keep more, or leave sensitive layers out (--skip)"
        )
    return comparison


def _foretold(before: Mapping[str, Any] | None, edits: Sequence[Edit]) -> dict[str, Any] | None:
    """Totals after a dry run: only what the edits change in MACs and params is foretold."""
    if before is None:
        return None
    saved = {
        key: sum((getattr(e, f"{key}_before") or 0) - (getattr(e, f"{key}_after") or 0) for e in edits)
        for key in ("macs", "params")
    }
    return {key: before[key] - saved[key] for key in saved}


def _in_order(patient: Patient, edits: Sequence[Edit]) -> list[Edit]:
    place = {name: i for i, name in enumerate(patient.names)}
    return sorted(edits, key=lambda edit: place.get(edit.layer, len(place)))


def _notes(
    batches: Batches | None, comparison: Comparison | None, latency: Mapping[str, Any] | None
) -> list[str]:
    if batches is None or comparison is None:
        return ["not compared"] if batches is None else []
    notes = [batches.note] if batches.note else []
    if batches.kind == "noise":
        notes.append("compared on seeded noise: a verdict on noise is not a verdict on data; pass --data")
    if latency is not None and latency["p90"] < 1:
        notes.append("the compressed model is slower on this machine: fewer operations are not always faster")
    return notes
