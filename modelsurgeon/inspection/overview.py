"""The tables that tell a person what a model is made of and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Column, Table

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis
    from modelsurgeon.inspection.rows import LayerRow, Totals

LONG = 120  # a longer formula is left to JSON
GROWING = {"macs": "MACs", "activation_bytes": "activations"}
COLUMNS = (
    Column(key="name", title="Layer", level="level"),
    Column(key="op", title="Op"),
    Column(key="output", title="Output", kind="shape"),
    Column(key="macs", title="MACs", kind="count"),
    Column(key="mac_share", title="%", kind="percent"),
    Column(key="mac_share", title="", kind="bar", style="cyan"),
    Column(key="params", title="Params", kind="count"),
    Column(key="param_share", title="%", kind="percent", wide=True),
    Column(key="param_bytes", title="Weights", kind="bytes"),
    Column(key="output_bytes", title="Activation", kind="bytes", wide=True),
    Column(key="intensity", title="FLOPs/B", kind="float", wide=True),
)
LEVEL = Column(key="level", title="Level", kind="int", wide=True)
BOTTLENECK_COLUMNS = (
    Column(key="layer", title="Layer"),
    Column(key="rule", title="Rule"),
    Column(key="message", title="Finding", kind="prose"),
)
UNCOUNTED_COLUMNS = (
    Column(key="op", title="Op"),
    Column(key="count", title="Nodes", kind="int"),
    Column(key="reason", title="Reason", kind="prose"),
)


def tables(found: Analysis) -> list[Table]:
    """The layers that do MACs or hold params, with totals; what stands out; and what isn't counted."""
    listed = [_layers(found)]
    if found.bottlenecks:
        listed.append(_listing("Bottlenecks", found.bottlenecks, BOTTLENECK_COLUMNS))
    if found.uncounted:
        listed.append(_listing("Not counted", found.uncounted, UNCOUNTED_COLUMNS))
    return listed


def _layers(found: Analysis) -> Table:
    totals = asdict(found.totals)
    notes = [memory_note(found.totals), *_open(found), *found.notes, *found.view]
    return Table(
        title=PurePath(str(found.model.get("path") or "model")).name,
        columns=COLUMNS if all(row.level == 0 for row in found.layers) else (*COLUMNS, LEVEL),
        rows=[{**vars(row), "output": row.output} for row in found.layers if row.matters],
        total={"name": "total", **totals, "output_bytes": found.totals.activation_bytes},
        notes=[*notes, *_hidden(found.layers, found.by)],
    )


def _listing(title: str, entries: Sequence[Any], columns: Sequence[Column]) -> Table:
    return Table(title=title, columns=columns, rows=[vars(entry) for entry in entries])


def memory_note(sums: Totals) -> str:
    """FLOPs, activations and their peak, and batch-norm statistics, in words."""
    statistics = f", {show(sums.bn_stats, 'count')} params are batch-norm statistics" if sums.bn_stats else ""
    return (
        f"{show(sums.flops, 'count')} FLOPs; activations {show(sums.activation_bytes, 'bytes')}, "
        f"at most {show(sums.peak_activation_bytes, 'bytes')} at once{statistics}"
    )


def _hidden(rows: Sequence[LayerRow], by: str) -> list[str]:
    """What the table leaves out."""
    rest = [row for row in rows if not row.matters]
    if not rest:
        return []
    if by != "node":
        return [f"{_more(len(rest), 'row')} no MACs and no params"]
    flops = show(sum(row.flops or 0 for row in rest), "count")
    return [f"{_more(len(rest), 'node')} no MACs and no params ({flops} FLOPs)"]


def _more(count: int, what: str) -> str:
    return f"1 more {what} has" if count == 1 else f"{count} more {what}s have"


def _open(found: Analysis) -> list[str]:
    """How the totals depend on open dimensions."""
    if not found.defaults:
        return []
    given = ", ".join(f"{name} = {size}" for name, size in found.defaults.items())
    formula = found.formulas.get("macs", "")
    told = f"MACs = {formula}; " if 0 < len(formula) <= LONG else ""
    grows = [f"{word} ~ {found.growth[key]}" for key, word in GROWING.items() if key in found.growth]
    return [f"{told}shown for {given}", *([f"growth: {', '.join(grows)}"] if grows else [])]
