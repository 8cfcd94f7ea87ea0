"""Compression end to end: sites -> calibration -> candidates -> selection -> surgery -> comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Unpack

from modelsurgeon.api import models
from modelsurgeon.api.devices import on_device
from modelsurgeon.api.operation import record, source
from modelsurgeon.api.options import CompressionOptions
from modelsurgeon.api.preparation import chosen_options, prepare
from modelsurgeon.arguments import Fraction, Interval, Tolerance, checked
from modelsurgeon.comparison import gate
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.compression.candidates import Decision
from modelsurgeon.compression.goal import Goal
from modelsurgeon.compression.planner import decide
from modelsurgeon.compression.refit.rows import ROWS_PER_COLUMN
from modelsurgeon.compression.result import Result
from modelsurgeon.compression.rollback import carry_out_with_rollback
from modelsurgeon.compression.study import Study, predicted_totals
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan
from modelsurgeon.surgery.site import EditableModel

GATE_ADVICE = "keep more, leave sensitive layers out (--skip), or allow more (--tolerance)"


@checked
@on_device
def compress(
    model: Any,  # noqa: ANN401 - a path, an ir.Model, an onnx.ModelProto or an nn.Module
    *,
    rank: int | str | None = None,
    energy: Fraction | None = None,
    macs: Fraction | None = None,
    params: Fraction | None = None,
    max_error: Annotated[float, Interval(0, above=True)] | None = None,
    speedup: Annotated[float, Interval(1, above=True)] | None = None,
    plan: Plan | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[CompressionOptions],
) -> Result:
    """Replace layers by cheaper chains of layers, and compare the result with the original.

    An ONNX model is left as it is and a new one returned; an nn.Module is edited in place and stays
    trainable. The goal is exactly one of:

    rank: that rank wherever its chain costs less than the layer; "evbmf" or a share such as "50%" to let each
    layer find its own. energy: the share of every weight's squared norm to keep, such as 0.95. macs, params:
    the fraction of the whole model's to keep, such as 0.5. max_error: the largest relative L2 error of an
    output. speedup: how many times as fast the whole model shall be, measured on one thread. plan: a `Plan`,
    its JSON data, or the path of its JSON file.

    The other keywords are those of `api.options.CompressionOptions`: method, data, refit, only, skip, shapes,
    dims, batch, seed, tolerance, compare, dry_run, block, provider, device and watch.

    Raises BadArgument for a goal out of range or none, BadModel, BadData, BadPlan, UnknownShape, Unavailable,
    Unreachable where no choice of ranks meets the goal, ToleranceExceeded and NoVerdict; a module is then as
    it was.
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
    gate.check_compares(options.get("tolerance"), compares=options.get("compare", True))
    opened, study = prepare("compress", model, options, must_run=bool(max_error or speedup))
    decision = decide(goal, study)
    if options.get("dry_run", False):
        return dry_run_result(study, decision)
    with _reset_on_failure(opened):
        tolerance = options.get("tolerance")
        result = carry_out(study, decision, opened, max_error if tolerance is None else tolerance)
    if not models.is_module(model):
        arguments = _recorded(goal) | chosen_options(options)
        record(result.model, "compress", arguments, source(model), result.comparison)
    return result


def carry_out(study: Study, decision: Decision, model: EditableModel, tolerance: Tolerance | None) -> Result:
    """Carry out a decision on a model and compare it with the original. Raises ToleranceExceeded, NoVerdict.

    tolerance: relative L2 that the outputs must stay within; None where nothing is asked of them.
    """
    before = model.totals()
    done = carry_out_with_rollback(decision.plan, study, model, firm=decision.firm)
    after, finished = model.totals(), model.finish()
    edits = study.own_errors(done.edits, decision)
    comparison = study.compare(model, tolerance)
    gate.check_compares(tolerance, compares=comparison is not None)
    gate.check(comparison, GATE_ADVICE)
    return Result(
        model=finished,
        before=before,
        after=after,
        edits=_in_order(study, [*edits, *decision.skipped, *study.skipped]),
        comparison=comparison,
        latency=done.latency,
        plan=done.plan,
        predicted=study.predict_error(model),
        notes=[
            *model.notes,
            *decision.notes,
            *_notes(study, comparison, done.latency),
            *_few_rows(study, done.plan),
            *(_unchanged_outputs(comparison) if done.plan else []),
        ],
    )


def dry_run_result(study: Study, decision: Decision) -> Result:
    """The edits that a decision would make and, with samples, the error to expect; nothing is changed."""
    plan, before = decision.plan, study.model.totals()
    predicted = None
    if study.calibration_data is None:
        edits = study.sketch(plan)
    else:
        trial = study.model.fresh_copy()
        edits = study.own_errors(study.carry_out(plan, trial), decision)
        predicted = study.predict_error(trial)
    return Result(
        model=None,
        before=before,
        after=predicted_totals(before, edits),
        edits=_in_order(study, [*edits, *decision.skipped, *study.skipped]),
        comparison=None,
        latency=None,
        plan=plan,
        predicted=predicted,
        outlook=study.outlook(decision, edits, predicted),
        notes=[*study.model.notes, *decision.notes, "not compared: this was a dry run"],
    )


def _recorded(goal: Goal) -> dict[str, Any]:
    """The goal as the history records it."""
    asked = {**vars(goal), "plan": goal.plan.as_dict() if goal.plan else None}
    return {name: value for name, value in asked.items() if value}


@contextmanager
def _reset_on_failure(model: EditableModel) -> Iterator[None]:
    """A module that is edited in place comes out whole or not at all, whatever ends the operation."""
    try:
        yield
    except BaseException:
        model.reset()
        raise


def _read_plan(plan: Plan | Mapping[str, Any] | str | Path | None) -> Plan | None:
    if plan is None or isinstance(plan, Plan):
        return plan
    return Plan.read(plan) if isinstance(plan, str | Path) else Plan.from_dict(plan)


def _in_order(study: Study, edits: Sequence[FactorizationEdit]) -> list[FactorizationEdit]:
    """The edits in the order of the model's layers."""
    place = {name: i for i, name in enumerate(study.model.names)}
    place |= {site.name: place[site.members[0]] for site in study.shared_input_sites}
    return sorted(edits, key=lambda edit: place.get(edit.layer, len(place)))


def _unchanged_outputs(comparison: Comparison | None) -> list[str]:
    """A warning about outputs of a cut model that equal the original's on every sample."""
    outputs = () if comparison is None else comparison.outputs
    names = [repr(output.name) for output in outputs if output.identical and output.rel_l2 is not None]
    if not names:
        return []
    return [
        f"the comparison says nothing about the output {', '.join(names[:3])}: it is the same as before on "
        "every sample, as it is where it is saturated, constant or independent of what was cut"
    ]


def _few_rows(study: Study, plan: Plan) -> list[str]:
    """A note on layers that were calibrated on few rows for their number of channels."""
    found = study.rows_per_channel(plan)
    scarce = [name for name, rows in found.items() if rows < ROWS_PER_COLUMN]
    if not scarce:
        return []
    least = min(scarce, key=found.__getitem__)
    return [
        f"few calibration rows for {len(scarce)} of {len(plan)} layers, fewest for {least}: "
        f"{found[least]:.2g} per channel, where {ROWS_PER_COLUMN} are enough: their covariances are shrunk; "
        "more samples lower the error"
    ]


def _notes(study: Study, comparison: Comparison | None, latency: Mapping[str, Any] | None) -> list[str]:
    """On what samples the model was calibrated and compared, and whether it became slower."""
    batches = study.held_out
    if batches is None or comparison is None:
        return ["not compared"]
    notes = [batches.note] if batches.note else []
    if study.calibration_data is not None:
        done = "calibrated and refitted" if study.refit else "calibrated"
        same = study.calibration_data.make is batches.make  # a single batch, which its own note mentions
        others = "the same" if same else f"{batches.samples} others"
        notes.append(f"{done} on {study.calibration_data.samples} samples, compared on {others}")
    elif batches.kind == "data":
        count = "1 sample is" if batches.samples == 1 else f"{batches.samples} samples are"
        notes.append(f"{count} too few to calibrate on: ranks follow from the weights")
    else:
        notes.append("compared on seeded noise: a verdict on noise is not a verdict on data; pass --data")
    if latency is not None and latency["p90"] < 1:
        notes.append("the compressed model is slower on this machine: fewer operations are not always faster")
    return notes
