"""Carry out a plan, and roll back what made the model slower.

The whole model is timed against the original. Where it is slower beyond noise, layers whose chains are no
faster than they were are put back; where that isn't enough, all of them are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelsurgeon.compression.latency_model import Times
from modelsurgeon.compression.study import Study
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan
from modelsurgeon.surgery.site import EditableModel

NO_GAIN = "put back: the whole model was slower, and here the chain takes as long as the layer"
NO_USE = "put back: the whole model was slower than the original"
NEGLIGIBLE_MS = 0.05  # what calling a few more nodes costs: nothing is put back for less


@dataclass(frozen=True, kw_only=True)
class CarriedOut:
    """plan: the steps that were kept. latency: None where nothing was timed or replaced."""

    plan: Plan
    edits: Sequence[FactorizationEdit]
    latency: Mapping[str, Any] | None


def carry_out_with_rollback(plan: Plan, study: Study, model: EditableModel, *, firm: bool) -> CarriedOut:
    """Carry out the plan as far as it makes the model faster; firm: all of it, however slow that is."""
    times = study.times(plan)
    done = _carry_out(plan, study, model, times)
    for kept, reason in () if firm else _fallbacks(plan, times):
        if not _is_slower(done.latency):
            break
        model.reset()
        done = _carry_out(kept, study, model, times)
        back = [FactorizationEdit(layer=name, skipped=reason) for name in plan if name not in kept]
        done = replace(done, edits=[*done.edits, *back])
    return done


def _fallbacks(plan: Plan, times: Times) -> Iterator[tuple[Plan, str]]:
    """Smaller plans to fall back to, each with the reason why the other layers are put back."""
    gaining = Plan({n: step for n, step in plan.items() if n not in times or times[n][1] < times[n][0]})
    if len(gaining) < len(plan):
        yield gaining, NO_GAIN
    yield Plan({}), NO_USE


def _carry_out(plan: Plan, study: Study, model: EditableModel, times: Times) -> CarriedOut:
    edits = [_with_times(edit, times) for edit in study.carry_out(plan, model)]
    model.tidy()
    changed = any(edit.skipped is None for edit in edits)
    return CarriedOut(plan=plan, edits=edits, latency=study.latency(model) if changed else None)


def _with_times(edit: FactorizationEdit, times: Times) -> FactorizationEdit:
    if edit.skipped is not None or edit.layer not in times:
        return edit
    before, after = times[edit.layer]
    return replace(edit, milliseconds_before=before, milliseconds_after=after)


def _is_slower(latency: Mapping[str, Any] | None) -> bool:
    """Whether the model is slower in nine of ten comparisons, and by more than NEGLIGIBLE_MS."""
    if latency is None:
        return False
    lost = latency["after"]["median_ms"] - latency["before"]["median_ms"]
    return bool(latency["p90"] < 1 and lost > NEGLIGIBLE_MS)
