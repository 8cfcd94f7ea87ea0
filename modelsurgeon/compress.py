"""Compression from end to end: sites -> calibration -> candidates -> selection -> surgery -> comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modelsurgeon import candidates as ways
from modelsurgeon import doors
from modelsurgeon.candidates import Decision
from modelsurgeon.compare import Comparison
from modelsurgeon.data import Batches, split
from modelsurgeon.decide import decide
from modelsurgeon.devices import on_device
from modelsurgeon.errors import BadPlan, ToleranceExceeded
from modelsurgeon.factorize import METHODS
from modelsurgeon.goal import Goal
from modelsurgeon.operate import record, source
from modelsurgeon.outcome import Result
from modelsurgeon.plan import Plan
from modelsurgeon.study import Study, totals_foretold
from modelsurgeon.surgery import Edit, Patient, Site

AUTO = "auto"
FEWEST = 4  # samples to calibrate on; fewer say more about themselves than about the layers


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
    refit: bool = True,
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
    data: unlabelled samples (`data.batches`). Three quarters of them show what every layer is fed and how
    much its errors matter, and with `refit` the factors are fitted to them; the rest judges the outcome.
    Without samples ranks follow from the weights alone, and seeded noise is compared on; the result says so.
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
    runs = (compare and (data is not None or not dry_run)) or bool(max_error or speedup)
    patient = _on_the_table(model, data=data, shapes=shapes, dims=dims, provider=provider, runs=runs)
    sites, left_out = _chosen(patient, only, skip)
    learned, judged = _split(patient.batches(seed) if runs else None)
    study = Study(
        patient=patient.twin(),
        sites=sites,
        methods=_methods(method),
        learned=learned,
        judged=judged,
        refit=refit,
        seed=seed,
    ).watched()
    decision = decide(goal, study)
    before = patient.totals()
    if dry_run:
        return _foretold(study, decision, before, left_out)
    with _undone_on_failure(patient):
        edits = study.perform(decision.plan, patient)
        after, finished = patient.totals(), patient.close()
        comparison = study.compared(patient, tolerance)
        _gate(comparison, tolerance)
        changed = any(edit.skipped is None for edit in edits)
        latency = study.patient.latency(patient, judged) if judged is not None and changed else None
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
        predicted=study.predicted(patient),
        notes=[*patient.notes, *_notes(study, comparison, latency)],
    )


def _told(goal: Goal, method: str, only: Sequence[str], skip: Sequence[str]) -> dict[str, Any]:
    """What a history tells of a compression: what was asked for, never where it lies."""
    chosen = {"method": method if method != AUTO else None, "only": list(only), "skip": list(skip)}
    asked = {**vars(goal), "plan": goal.plan.as_dict() if goal.plan else None, **chosen}
    return {name: value for name, value in asked.items() if value}


def _split(batches: Batches | None) -> tuple[Batches | None, Batches | None]:
    """Samples to calibrate on and to judge by. Noise, and a handful of samples, say nothing of the layers."""
    if batches is None or batches.kind == "noise":
        return None, batches
    learned, judged = split(batches)
    return (learned, judged) if learned.samples >= FEWEST else (None, batches)


def _foretold(
    study: Study, decision: Decision, before: Mapping[str, Any] | None, left_out: Sequence[Edit]
) -> Result:
    """What would be done, and with samples what it would cost; nothing is changed."""
    plan = decision.plan
    predicted = None
    if study.learned is None:
        edits = [ways.sketched(site, plan[site.name]) for site in study.sites if site.name in plan]
    else:
        trial = study.patient.twin()
        edits = study.perform(plan, trial)
        predicted = study.predicted(trial)
    return Result(
        model=None,
        before=before,
        after=totals_foretold(before, edits),
        edits=_in_order(study.patient, [*edits, *decision.kept, *left_out]),
        comparison=None,
        latency=None,
        plan=plan,
        predicted=predicted,
        notes=[*study.patient.notes, "not compared: this was a dry run"],
    )


def _gate(comparison: Comparison | None, tolerance: float | None) -> None:
    if comparison is not None and tolerance is not None and comparison.worst > tolerance:
        raise ToleranceExceeded(
            f"relative L2 at the outputs is {comparison.worst:.3g}, at most {tolerance:g} was allowed: "
            "keep more, or leave sensitive layers out (--skip)"
        )


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


def _in_order(patient: Patient, edits: Sequence[Edit]) -> list[Edit]:
    place = {name: i for i, name in enumerate(patient.names)}
    return sorted(edits, key=lambda edit: place.get(edit.layer, len(place)))


def _notes(study: Study, comparison: Comparison | None, latency: Mapping[str, Any] | None) -> list[str]:
    batches = study.judged
    if batches is None or comparison is None:
        return ["not compared"]
    notes = [batches.note] if batches.note else []
    if study.learned is not None:
        done = "calibrated and refitted" if study.refit else "calibrated"
        notes.append(f"{done} on {study.learned.samples} samples, compared on {batches.samples} others")
    elif batches.kind == "data":
        notes.append(f"{batches.samples} samples are too few to calibrate on: ranks follow from the weights")
    else:
        notes.append("compared on seeded noise: a verdict on noise is not a verdict on data; pass --data")
    if latency is not None and latency["p90"] < 1:
        notes.append("the compressed model is slower on this machine: fewer operations are not always faster")
    return notes
