"""The result of a compression and its tables: layers replaced, layers skipped, totals and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from modelsurgeon.inspection.rows import COST_TITLES
from modelsurgeon.report.columns import Column
from modelsurgeon.report.line_chart import Chart, ChartLine
from modelsurgeon.report.table import Table
from modelsurgeon.surgery.edits import FactorizationEdit, skipped_table

if TYPE_CHECKING:
    from modelsurgeon.comparison.compare import Comparison
    from modelsurgeon.compression.outlook import Outlook
    from modelsurgeon.surgery.plan import Plan

ERROR_TITLES = {"error": "weight error", "own_error": "own error", "output_error": "error so far"}
ERROR_COLUMNS_NOTE = (
    "own error: predicted for the layer's outputs if it alone were cut; error so far: of "
    "its outputs in the cut net, on validation samples"
)
MAX_ERROR_RATIO = 1.5  # of measured to predicted error or the reverse: above, a note says so

_TIME_COLUMNS = (
    Column(key="milliseconds_before", title="ms before", kind="float", wide=True),
    Column(key="milliseconds_after", title="after", kind="float", wide=True),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a compression: the compressed model, its costs and its errors.

    model: an ir.Model, or the caller's nn.Module, edited in place; None after a dry run. before, after:
    totals of the model by name, such as macs (multiply-accumulates), params (numbers) and param_bytes
    (bytes); after a dry run `after` has macs and params only; None where sizes aren't known. edits: one per
    layer, in the order of the model, those of skipped layers included. comparison: of the compressed model
    with the original; None where nothing was run. latency: `before` and `after`, each with median_ms, p10_ms
    and p90_ms in milliseconds, and `speedup`, the ratio before / after, with its p10 and p90; None where
    nothing was timed. plan: method and rank of each layer that was replaced. predicted: relative L2 error to
    expect at the outputs, measured on validation samples out of the calibration data; None without those.
    outlook: after a dry run, estimated cost of the cut, and of low rank for this model in general; else None.
    notes: sentences for the reader, such as which samples were used.
    """

    model: Any
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    edits: Sequence[FactorizationEdit]
    comparison: Comparison | None
    latency: Mapping[str, Any] | None
    plan: Plan
    predicted: float | None = None
    outlook: Outlook | None = None
    notes: Sequence[str] = field(default=())

    @property
    def measured(self) -> float | None:
        """Largest relative L2 error of a floating-point output; infinite for NaN, None where not compared."""
        outputs = () if self.comparison is None else self.comparison.outputs
        return max((output.error for output in outputs if output.rel_l2 is not None), default=None)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON data, without the model; infinite and undefined errors are null."""
        return {
            "before": self.before,
            "after": self.after,
            "edits": [edit.as_dict() for edit in self.edits],
            "comparison": None if self.comparison is None else self.comparison.as_dict(),
            "latency": self.latency,
            "plan": self.plan.as_dict(),
            "predicted_error": self.predicted,
            "measured_error": self.measured if isfinite(self.measured or 0.0) else None,
            "outlook": None if self.outlook is None else self.outlook.as_dict(),
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """Edits with a chart, layers left alone, totals, latency, errors, and the comparison."""
        return tables(self)


def tables(result: Result) -> list[Table]:
    """Edits with a chart, layers left alone, totals, latency, errors, and the comparison."""
    replaced = [edit for edit in result.edits if edit.skipped is None]
    skipped = [edit for edit in result.edits if edit.skipped is not None]
    found = [_edits_table(replaced)] if replaced else []
    found += [skipped_table(skipped)] if skipped else []
    found.append(_totals_table(result))
    found += [_errors_table(result.predicted, result.measured)] if result.predicted is not None else []
    found += [] if result.outlook is None else [result.outlook.table()]
    return found + (result.comparison.tables() if result.comparison is not None else [])


def _edits_table(edits: Sequence[FactorizationEdit]) -> Table:
    """A row per replaced layer. Errors of outputs where there was calibration data, else of weights."""
    calibrated = any(edit.own_error is not None for edit in edits)
    errors = ("own_error", "output_error") if calibrated else ("error",)
    columns = [
        Column(key="layer", title="layer"),
        Column(key="method", title="method"),
        Column(key="rank", title="rank"),
        Column(key="macs_before", title="MACs before", kind="count"),
        Column(key="macs_after", title="after", kind="count"),
        Column(key="kept", title="kept", kind="percent"),
        Column(key="kept", title="", kind="bar"),
        *(_TIME_COLUMNS if any(edit.milliseconds_after is not None for edit in edits) else ()),
        Column(key="params_after", title="params after", kind="count", wide=True),
        *(Column(key=error, title=ERROR_TITLES[error], kind="float") for error in errors),
    ]
    rows = [_edit_row(edit) for edit in edits]
    before, after = (sum(getattr(e, key) or 0 for e in edits) for key in ("macs_before", "macs_after"))
    total = {"layer": f"{len(edits)} layers replaced", "macs_before": before, "macs_after": after}
    total["kept"] = after / before if before else None
    timed = [edit for edit in edits if edit.milliseconds_after is not None]
    for key in ("milliseconds_before", "milliseconds_after"):
        total[key] = sum(getattr(edit, key) for edit in timed) if timed else None
    chart = _depth_chart(edits) if calibrated and len(edits) > 1 else None
    notes = [ERROR_COLUMNS_NOTE] if calibrated else []
    return Table(title="Layers replaced", columns=columns, rows=rows, total=total, notes=notes, plot=chart)


def _depth_chart(edits: Sequence[FactorizationEdit]) -> Chart:
    """Errors of the replaced layers, in the order of the model."""
    lines = [
        ChartLine(name="own error: of the layer cut alone", values=[edit.own_error for edit in edits]),
        ChartLine(
            name="error so far: of its outputs in the cut net", values=[edit.output_error for edit in edits]
        ),
    ]
    labels = [edit.layer for edit in edits]
    return Chart(lines=lines, labels=labels, axis="layers replaced, in the order of the net")


def _errors_table(predicted: float, measured: float | None) -> Table:
    """Predicted and measured error next to each other, with a note where they differ much."""
    columns = [
        Column(key="what", title=""),
        Column(key="predicted", title="predicted", kind="float"),
        Column(key="measured", title="measured", kind="float"),
        Column(key="ratio", title="measured / predicted", kind="float"),
    ]
    ratio = measured / predicted if measured is not None and predicted else None
    what = "relative L2, the output where it is largest"
    row = {"what": what, "predicted": predicted, "measured": measured, "ratio": ratio}
    notes = [] if ratio is None else disagreement_notes(ratio)
    return Table(title="Error at the outputs", columns=columns, rows=[row], notes=notes)


def disagreement_notes(ratio: float) -> list[str]:
    """A note where the measured error is far from the predicted one. ratio: measured / predicted."""
    if ratio > MAX_ERROR_RATIO:
        return [
            f"measured is {ratio:.3g} times what was predicted: the calibration samples differ from those "
            "compared on, or are too few; give more of what the model will see"
        ]
    if ratio < 1 / MAX_ERROR_RATIO:
        return [f"measured is {1 / ratio:.3g} times less than predicted: the samples compared on are easier"]
    return []


def _edit_row(edit: FactorizationEdit) -> dict[str, Any]:
    """Cells of one replaced layer. A layer that only lost channels has no method; its action is shown."""
    shown = {"method": edit.method or edit.action, "rank": rank_text(edit), "kept": _macs_share(edit)}
    return edit.as_dict() | shown


def rank_text(edit: FactorizationEdit) -> str:
    """The rank as text, a pair such as "64x16"; empty where there is none."""
    ranks = edit.rank if isinstance(edit.rank, tuple) else (edit.rank,)
    return "x".join(str(rank) for rank in ranks if rank is not None)


def _macs_share(edit: FactorizationEdit) -> float | None:
    """The share of the layer's MACs that is left."""
    return (edit.macs_after or 0) / edit.macs_before if edit.macs_before else None


def _totals_table(result: Result) -> Table:
    """Totals before and after, and the latency where it was measured."""
    before, after = result.before or {}, result.after or {}
    rows: list[Mapping[str, Any]] = [
        {"what": title, **_total_cells(before.get(key), after.get(key), "bytes" in key)}
        for key, title in COST_TITLES.items()
        if key in before and key in after
    ]
    if result.latency is not None:
        rows.append(_latency_row(result.latency))
    columns = [
        Column(key="what", title=""),
        Column(key="before", title="before", kind="count"),
        Column(key="after", title="after", kind="count"),
        Column(key="ratio", title="after / before", kind="percent"),
    ]
    return Table(title="Before and after", columns=columns, rows=rows, notes=result.notes)


def _total_cells(before: Any, after: Any, is_bytes: bool) -> dict[str, Any]:  # noqa: ANN401 - or formulas
    from modelsurgeon.report.formatting import count, size

    as_text = size if is_bytes else count
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return {
        "before": as_text(before) if numbers else str(before),
        "after": as_text(after) if numbers else str(after),
        "ratio": after / before if numbers and before else None,
    }


def _latency_row(latency: Mapping[str, Any]) -> dict[str, Any]:
    before, after = latency["before"], latency["after"]
    return {
        "what": "latency, one thread" if before["threads"] == 1 else "latency",
        "before": f"{before['median_ms']:.3g} ms ({before['p10_ms']:.3g}-{before['p90_ms']:.3g})",
        "after": f"{after['median_ms']:.3g} ms ({after['p10_ms']:.3g}-{after['p90_ms']:.3g})",
        "ratio": 1 / latency["speedup"],
    }
