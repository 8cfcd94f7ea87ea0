"""Results at several budgets side by side: totals kept, errors and speedups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelsurgeon.compression.result import Result, disagreement_notes, rank_text
from modelsurgeon.compression.rollback import NO_GAIN, NO_USE
from modelsurgeon.report.columns import Column
from modelsurgeon.report.line_chart import Chart, ChartLine
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """One budget of a sweep: the fraction of the total to keep, and the result."""

    fraction: float
    result: Result

    def kept(self, key: str) -> float | None:
        """The share of a total that is left, after / before. key: such as "macs"; None where not known."""
        before, after = (self.result.before or {}).get(key), (self.result.after or {}).get(key)
        return after / before if before and after is not None else None


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The results of a sweep, in the order asked for. of: what the fractions are of, "macs" or "params".

    files: where each model was written, by fraction.
    """

    of: str
    points: Sequence[FrontierPoint]
    files: Mapping[float, str | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The points as plain JSON data, each with the JSON of its `Result`, its fraction and its file."""
        points = [
            {"fraction": p.fraction, "file": self.files.get(p.fraction), **p.result.as_dict()}
            for p in self.points
        ]
        return {"of": self.of, "points": points}

    def tables(self) -> list[Table]:
        """A row per point, with a chart; the method and rank of each layer at each point; the outlook."""
        outlook = self.points[0].result.outlook
        net = [] if outlook is None else [outlook.table(cost=False)]
        return [_frontier_table(self), *_layer_tables(self), *net]

    def __rich__(self) -> RenderableType:
        """All tables, for a terminal."""
        from rich.console import Group

        return Group(*self.tables())


def _frontier_table(frontier: Frontier) -> Table:
    points = frontier.points
    columns = [
        Column(
            key="fraction", title=f"{'MACs' if frontier.of == 'macs' else frontier.of} asked", kind="percent"
        ),
        Column(key="macs", title="MACs", kind="count"),
        Column(key="macs_kept", title="kept", kind="percent"),
        Column(key="params", title="params", kind="count"),
        Column(key="params_kept", title="kept", kind="percent", wide=True),
        Column(key="param_bytes", title="bytes", kind="bytes", wide=True),
        Column(key="speedup", title="times faster"),
        Column(key="predicted", title="predicted error", kind="float"),
        Column(key="measured", title="measured", kind="float"),
        Column(key="top1", title="same top-1", kind="percent", wide=True),
        Column(key="file", title="file"),
    ]
    rows = [_frontier_row(point, frontier.files.get(point.fraction)) for point in points]
    notes = dict.fromkeys(note for point in points for note in _point_notes(point))
    return Table(
        title="Cost of each budget",
        columns=columns,
        rows=rows,
        notes=[*notes],
        plot=_error_chart(frontier),
    )


def _frontier_row(point: FrontierPoint, file: str | None) -> dict[str, Any]:
    result, after = point.result, point.result.after or {}
    return {
        "fraction": point.fraction,
        **{key: after.get(key) for key in ("macs", "params", "param_bytes")},
        "macs_kept": point.kept("macs"),
        "params_kept": point.kept("params"),
        "speedup": _speedup_text(result.latency),
        "predicted": result.predicted,
        "measured": result.measured,
        "top1": _least_top1(result),
        "file": file,
    }


def _least_top1(result: Result) -> float | None:
    """The smallest share of rows with the same largest entry, over all outputs that have one."""
    outputs = result.comparison.outputs if result.comparison else ()
    return min((o.top1_agreement for o in outputs if o.top1_agreement is not None), default=None)


def _speedup_text(latency: Mapping[str, Any] | None) -> str | None:
    if latency is None:
        return None
    return f"{latency['speedup']:.2f} ({latency['p10']:.2f}-{latency['p90']:.2f})"


def _point_notes(point: FrontierPoint) -> list[str]:
    """The notes of one point; those about it alone name its fraction."""
    result = point.result
    ratio = (result.measured or 0.0) / (result.predicted or 1.0)
    own = disagreement_notes(ratio) if result.measured and result.predicted else []
    restored = [edit for edit in result.edits if edit.skipped in (NO_GAIN, NO_USE)]
    own += [f"{len(restored)} layers were put back: their chains were no faster"] if restored else []
    return [*result.notes, *(f"at {point.fraction:g}: {note}" for note in own)]


def _error_chart(frontier: Frontier) -> Chart | None:
    """Measured and predicted errors against the share kept; None for fewer than two points."""
    points = sorted(frontier.points, key=lambda point: -point.fraction)
    lines = [
        ChartLine(name="measured relative L2", values=[point.result.measured for point in points]),
        ChartLine(name="predicted", values=[point.result.predicted for point in points]),
    ]
    shown = [line for line in lines if any(value is not None for value in line.values)]
    kept = [point.kept(frontier.of) for point in points]
    at = [share for share in kept if share is not None]
    if len(points) < 2 or len(at) < len(kept) or not shown:
        return None
    labels = [f"{100 * share:.0f} %" for share in at]
    return Chart(lines=shown, labels=labels, at=at, axis=f"{frontier.of} kept".replace("macs", "MACs"))


def _layer_tables(frontier: Frontier) -> list[Table]:
    """A row per layer that any point replaces: its method and rank at each point."""
    cells: dict[str, dict[str, Any]] = {}
    for point in frontier.points:
        for edit in point.result.edits:
            if edit.skipped is None:
                cell = f"{edit.method or edit.action} {rank_text(edit)}".rstrip()
                cells.setdefault(edit.layer, {"layer": edit.layer})[str(point.fraction)] = cell
    order = {edit.layer: n for n, edit in enumerate(frontier.points[0].result.edits)}
    columns = [
        Column(key="layer", title="layer"),
        *(Column(key=str(point.fraction), title=f"{point.fraction:g}") for point in frontier.points),
    ]
    rows = sorted(cells.values(), key=lambda row: order.get(row["layer"], len(order)))
    return [Table(title="Method and rank of each layer", columns=columns, rows=rows)] if rows else []
