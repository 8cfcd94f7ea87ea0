"""The result of a compression and its tables: what was done, what was left alone, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelsurgeon.edits import left_alone
from modelsurgeon.surgery import Edit
from modelsurgeon.table import Column, Table

if TYPE_CHECKING:
    from modelsurgeon.compare import Comparison
    from modelsurgeon.plan import Plan

TOTALS = {
    "macs": "MACs",
    "flops": "FLOPs",
    "params": "params",
    "param_bytes": "param bytes",
    "activation_bytes": "activation bytes",
    "peak_activation_bytes": "peak activation bytes",
}
ERRORS = {"error": "weight error", "output_error": "output error"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What compression did.

    model: None after a dry run; a module is the caller's own, edited in place. before, after: totals.
    predicted: relative L2 to be expected at the outputs, from calibration alone; None without samples.
    """

    model: Any
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    edits: Sequence[Edit]
    comparison: Comparison | None
    latency: Mapping[str, Any] | None
    plan: Plan
    predicted: float | None = None
    notes: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON data."""
        return {
            "before": self.before,
            "after": self.after,
            "edits": [edit.as_dict() for edit in self.edits],
            "comparison": None if self.comparison is None else self.comparison.as_dict(),
            "latency": self.latency,
            "plan": self.plan.as_dict(),
            "predicted_error": self.predicted,
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """Edits, layers left alone, totals before and after with latency, and the comparison."""
        return tables(self)


def tables(result: Result) -> list[Table]:
    """Edits, layers left alone, totals before and after with latency, and the comparison."""
    edited = [edit for edit in result.edits if edit.skipped is None]
    kept = [edit for edit in result.edits if edit.skipped is not None]
    found = [_edited(edited)] if edited else []
    found += [left_alone(kept)] if kept else []
    found.append(_totals(result))
    return found + (result.comparison.tables() if result.comparison is not None else [])


def _edited(edits: Sequence[Edit]) -> Table:
    error = "error" if any(edit.output_error is None for edit in edits) else "output_error"
    columns = [
        Column(key="layer", title="layer"),
        Column(key="method", title="method"),
        Column(key="rank", title="rank"),
        Column(key="macs_before", title="MACs before", kind="count"),
        Column(key="macs_after", title="after", kind="count"),
        Column(key="kept", title="kept", kind="percent"),
        Column(key="kept", title="", kind="bar"),
        Column(key="params_after", title="params after", kind="count", wide=True),
        Column(key=error, title=ERRORS[error], kind="float"),
    ]
    rows = [edit.as_dict() | {"rank": _rank(edit), "kept": _share(edit)} for edit in edits]
    before, after = (sum(getattr(e, key) or 0 for e in edits) for key in ("macs_before", "macs_after"))
    total = {"layer": f"{len(edits)} layers replaced", "macs_before": before, "macs_after": after}
    total["kept"] = after / before if before else None
    return Table(title="Layers replaced", columns=columns, rows=rows, total=total)


def _rank(edit: Edit) -> str:
    return "x".join(map(str, edit.rank)) if isinstance(edit.rank, tuple) else str(edit.rank)


def _share(edit: Edit) -> float | None:
    return (edit.macs_after or 0) / edit.macs_before if edit.macs_before else None


def _totals(result: Result) -> Table:
    before, after = result.before or {}, result.after or {}
    rows: list[Mapping[str, Any]] = [
        {"what": title, **_cells(before.get(key), after.get(key), "bytes" in key)}
        for key, title in TOTALS.items()
        if key in before and key in after
    ]
    if result.latency is not None:
        rows.append(_latency(result.latency))
    columns = [
        Column(key="what", title=""),
        Column(key="before", title="before", kind="count"),
        Column(key="after", title="after", kind="count"),
        Column(key="ratio", title="after / before", kind="percent"),
    ]
    return Table(title="Before and after", columns=columns, rows=rows, notes=result.notes)


def _cells(before: Any, after: Any, is_bytes: bool) -> dict[str, Any]:  # noqa: ANN401 - numbers or formulas
    from modelsurgeon.cells import count, size

    write = size if is_bytes else count
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return {
        "before": write(before) if numbers else str(before),
        "after": write(after) if numbers else str(after),
        "ratio": after / before if numbers and before else None,
    }


def _latency(latency: Mapping[str, Any]) -> dict[str, Any]:
    before, after = latency["before"], latency["after"]
    return {
        "what": "latency",
        "before": f"{before['median_ms']:.3g} ms ({before['p10_ms']:.3g}-{before['p90_ms']:.3g})",
        "after": f"{after['median_ms']:.3g} ms ({after['p10_ms']:.3g}-{after['p90_ms']:.3g})",
        "ratio": 1 / latency["speedup"],
    }
