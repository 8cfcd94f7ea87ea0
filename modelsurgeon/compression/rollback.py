"""A plan carried out, and the last look at the clock: what came out slower than it went in is put right.

The whole model is timed against the original. Where it is slower beyond noise, layers whose chains gain them
nothing are put back; where that doesn't mend it, all of them are.
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
NEGLIGIBLE_MS = 0.05  # milliseconds that calling a few nodes more costs: no net is put back for those


@dataclass(frozen=True, kw_only=True)
class CarriedOut:
    """What came of a plan. plan: what is left of it. latency: None where nothing was timed or replaced."""

    plan: Plan
    edits: Sequence[FactorizationEdit]
    latency: Mapping[str, Any] | None


def carry_out_with_rollback(plan: Plan, study: Study, model: EditableModel, *, firm: bool) -> CarriedOut:
    """Do what the plan says, as far as it is quick; firm: all of it, however slow that is."""
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
    """What may be left of a plan, and why the rest was put back."""
    gaining = Plan({n: step for n, step in plan.items() if n not in times or times[n][1] < times[n][0]})
    if len(gaining) < len(plan):
        yield gaining, NO_GAIN
    yield Plan({}), NO_USE


def _carry_out(plan: Plan, study: Study, model: EditableModel, times: Times) -> CarriedOut:
    edits = [_with_times(edit, times) for edit in study.perform(plan, model)]
    model.finish()
    changed = any(edit.skipped is None for edit in edits)
    return CarriedOut(plan=plan, edits=edits, latency=study.latency(model) if changed else None)


def _with_times(edit: FactorizationEdit, times: Times) -> FactorizationEdit:
    if edit.skipped is not None or edit.layer not in times:
        return edit
    before, after = times[edit.layer]
    return replace(edit, milliseconds_before=before, milliseconds_after=after)


def _is_slower(latency: Mapping[str, Any] | None) -> bool:
    """Whether nine of ten comparisons show the model slower, and by more than a trifle."""
    if latency is None:
        return False
    lost = latency["after"]["median_ms"] - latency["before"]["median_ms"]
    return bool(latency["p90"] < 1 and lost > NEGLIGIBLE_MS)
