"""Compression from end to end: sites -> calibration -> candidates -> selection -> surgery -> comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelsurgeon.api import models
from modelsurgeon.api.devices import on_device
from modelsurgeon.api.operation import record, source
from modelsurgeon.api.preparation import AUTO, open_model, prepare
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.compression.candidates import Decision
from modelsurgeon.compression.goal import Goal
from modelsurgeon.compression.planner import decide
from modelsurgeon.compression.result import Result
from modelsurgeon.compression.rollback import carry_out_with_rollback
from modelsurgeon.compression.study import Study, predicted_totals
from modelsurgeon.errors import ToleranceExceeded
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.progress import Progress
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan
from modelsurgeon.surgery.site import EditableModel


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
    block: int = RANK_BLOCK,
    batch: int | None = None,
    provider: str = "cpu",
    device: str = "cpu",  # noqa: ARG001 - `on_device` reads it
    watch: Progress | None = None,
) -> Result:
    """Replace layers by cheaper chains, then compare the outcome with the original.

    An ONNX model is left as it is and a new one returned; an nn.Module is edited in place, still trainable.
    Exactly one of the first seven arguments is given, see `Goal`. only, skip: globs on layer names.
    data: unlabelled samples (`data.batches`). Three quarters of them show what every layer is fed and how
    much its errors matter, and with `refit` the factors are fitted to them; the rest judges the outcome.
    Without samples ranks follow from the weights alone, and seeded noise is compared on; the result says so.
    tolerance: raise ToleranceExceeded where relative L2 at an output is larger. compare: run and time the
    models; speedup and max_error need that. block: ranks that are chosen are multiples of it, as runtimes lay
    channels out. batch: samples a feed, where the model leaves that open. device:
    where large weights are factorized, see `ms.device`. watch: told what is done, how much, and of how much.
    """
    goal = Goal(
        rank=rank,
        energy=energy,
        macs=macs,
        params=params,
        max_error=max_error,
        speedup=speedup,
        plan=_read_plan(plan),
    )
    runs = (compare and (data is not None or not dry_run)) or bool(max_error or speedup)
    editable = open_model(
        model, data=data, shapes=shapes, batch=batch, dims=dims, provider=provider, runs=runs
    )
    study = prepare(
        editable,
        method=method,
        only=only,
        skip=skip,
        refit=refit,
        seed=seed,
        runs=runs,
        watch=watch,
        block=block,
    )
    decision = decide(goal, study)
    if dry_run:
        return dry_run_result(study, decision)
    with _reset_on_failure(editable):
        result = carry_out(study, decision, editable, tolerance)
    if not models.is_module(model):
        record(
            result.model,
            "compress",
            _history_arguments(goal, method, only, skip, block),
            source(model),
            result.comparison,
        )
    return result


def carry_out(study: Study, decision: Decision, editable: EditableModel, tolerance: float | None) -> Result:
    """Do to a editable what was decided, and compare it with the original. Raises ToleranceExceeded."""
    before = editable.totals()
    done = carry_out_with_rollback(decision.plan, study, editable, firm=decision.firm)
    after, finished = editable.totals(), editable.finish()
    edits = study.own_errors(done.edits, decision)
    comparison = study.compared(editable, tolerance)
    _check_tolerance(comparison, tolerance)
    return Result(
        model=finished,
        before=before,
        after=after,
        edits=_in_order(study, [*edits, *decision.kept, *study.left_out]),
        comparison=comparison,
        latency=done.latency,
        plan=done.plan,
        predicted=study.predicted(editable),
        notes=[*editable.notes, *_notes(study, comparison, done.latency)],
    )


def _history_arguments(
    goal: Goal, method: str, only: Sequence[str], skip: Sequence[str], block: int
) -> dict[str, Any]:
    """What a history tells of a compression: what was asked for, never where it lies."""
    chosen: dict[str, Any] = {
        "method": method if method != AUTO else None,
        "only": list(only),
        "skip": list(skip),
    }
    chosen["block"] = block if block != RANK_BLOCK else None
    asked = {**vars(goal), "plan": goal.plan.as_dict() if goal.plan else None, **chosen}
    return {name: value for name, value in asked.items() if value}


def dry_run_result(study: Study, decision: Decision) -> Result:
    """What would be done, and with samples what it would cost; nothing is changed."""
    plan, before = decision.plan, study.model.totals()
    predicted = None
    if study.calibration_data is None:
        edits = study.sketched(plan)
    else:
        trial = study.model.fresh_copy()
        edits = study.own_errors(study.perform(plan, trial), decision)
        predicted = study.predicted(trial)
    return Result(
        model=None,
        before=before,
        after=predicted_totals(before, edits),
        edits=_in_order(study, [*edits, *decision.kept, *study.left_out]),
        comparison=None,
        latency=None,
        plan=plan,
        predicted=predicted,
        outlook=study.outlook(decision, edits, predicted),
        notes=[*study.model.notes, "not compared: this was a dry run"],
    )


def _check_tolerance(comparison: Comparison | None, tolerance: float | None) -> None:
    if comparison is not None and tolerance is not None and comparison.worst > tolerance:
        raise ToleranceExceeded(
            f"relative L2 at the outputs is {comparison.worst:.3g}, at most {tolerance:g} was allowed: "
            "keep more, or leave sensitive layers out (--skip)"
        )


@contextmanager
def _reset_on_failure(editable: EditableModel) -> Iterator[None]:
    """A module that is edited in place comes out whole or not at all, whatever ends the operation."""
    try:
        yield
    except BaseException:
        editable.reset()
        raise


def _read_plan(plan: Plan | Mapping[str, Any] | str | Path | None) -> Plan | None:
    if plan is None or isinstance(plan, Plan):
        return plan
    return Plan.read(plan) if isinstance(plan, str | Path) else Plan.from_dict(plan)


def _in_order(study: Study, edits: Sequence[FactorizationEdit]) -> list[FactorizationEdit]:
    place = {name: i for i, name in enumerate(study.model.names)}
    place |= {union.name: place[union.members[0]] for union in study.shared_input_sites}
    return sorted(edits, key=lambda edit: place.get(edit.layer, len(place)))


def _notes(study: Study, comparison: Comparison | None, latency: Mapping[str, Any] | None) -> list[str]:
    batches = study.held_out
    if batches is None or comparison is None:
        return ["not compared"]
    notes = [batches.note] if batches.note else []
    if study.calibration_data is not None:
        done = "calibrated and refitted" if study.refit else "calibrated"
        same = (
            study.calibration_data.make is batches.make
        )  # there is one batch only, which its own note tells of
        told = "the same" if same else f"{batches.samples} others"
        notes.append(f"{done} on {study.calibration_data.samples} samples, compared on {told}")
    elif batches.kind == "data":
        count = "1 sample is" if batches.samples == 1 else f"{batches.samples} samples are"
        notes.append(f"{count} too few to calibrate on: ranks follow from the weights")
    else:
        notes.append("compared on seeded noise: a verdict on noise is not a verdict on data; pass --data")
    if latency is not None and latency["p90"] < 1:
        notes.append("the compressed model is slower on this machine: fewer operations are not always faster")
    return notes
