"""The result of `info`: plain data that renders itself, whatever framework the model was read from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from modelsurgeon.inspection.rows import (
    COST_TITLES,
    Bottleneck,
    Gap,
    LayerRow,
    LeftOutConstants,
    Totals,
    UncountedOperators,
)
from modelsurgeon.inspection.views import describe_share, grouped, in_order, matching, nested
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_FORMULA_LENGTH = 120  # characters; a longer formula is in JSON only
BOUND_TITLES = {**COST_TITLES, "bias_adds": "bias adds"}  # of totals that may leave something out
GROWTH_TITLES = {"macs": "MACs", "activation_bytes": "activations"}
LAYER_COLUMNS = (
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
LEVEL_COLUMN = Column(key="level", title="Level", kind="int", wide=True)
BOTTLENECK_COLUMNS = (
    Column(key="layer", title="Layer"),
    Column(key="rule", title="Rule"),
    Column(key="message", title="Finding", kind="prose"),
)
UNCOUNTED_COLUMNS = (
    Column(key="op", title="Op"),
    Column(key="count", title="Nodes", kind="int"),
    Column(key="first", title="First"),
    Column(key="reason", title="Reason", kind="prose"),
)


class Section(Protocol):
    """A further part of an analysis, such as memory: plain data that renders itself."""

    def as_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The JSON under the section's key."""

    def tables(self) -> Sequence[Table]:
        """The tables that people read."""


@runtime_checkable
class ByLayer(Section, Protocol):
    """A section with entries per layer, which can be filtered by layer."""

    def among(self, layers: Collection[str]) -> Section:
        """The entries for the layers of these names."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Static inspection of one model.

    formulas: totals as expressions in the open dimensions, where they could be derived; `totals` then holds
    their values at `defaults`, and `growth` the order in which they grow. gaps: what totals leave out; these
    are lower bounds. constants: floating ones that are no params. notes: assumptions made.
    sections: further parts that were requested, by JSON key.
    by: unit of a row, `node` or one of GROUPS. view: sentences that say which rows are shown.
    """

    model: Mapping[str, Any]
    totals: Totals
    layers: Sequence[LayerRow]
    uncounted: Sequence[UncountedOperators] = ()
    gaps: Sequence[Gap] = ()
    constants: Sequence[LeftOutConstants] = ()
    bottlenecks: Sequence[Bottleneck] = ()
    formulas: Mapping[str, str] = field(default_factory=dict)
    growth: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)
    by: str = "node"
    view: Sequence[str] = ()

    @property
    def lower_bounds(self) -> list[str]:
        """Keys of the totals that leave something out, so that the right figure may be larger."""
        left_out = {key for gap in self.gaps if not gap.assumed for key in gap.totals}
        return [key for key in vars(self.totals) if key in left_out]

    def left_out(self, total: str | None = None) -> list[Gap]:
        """What a total leaves out, or what any of them does."""
        return [gap for gap in self.gaps if total is None or total in gap.totals]

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `modelsurgeon info`."""
        found = {
            "model": dict(self.model),
            "totals": asdict(self.totals),
            "layers": [row.as_dict() for row in self.layers],
            "uncounted": [asdict(entry) for entry in self.uncounted],
            "incomplete": [asdict(gap) for gap in self.gaps],
            "lower_bounds": self.lower_bounds,
            "constants": [asdict(entry) for entry in self.constants],
            "bottlenecks": [asdict(entry) for entry in self.bottlenecks],
            "notes": [*self.notes, *self.view],
        }
        if self.defaults:
            symbolic = {"formulas": self.formulas, "growth": self.growth, "defaults": self.defaults}
            found |= {key: dict(value) for key, value in symbolic.items()}
        return found | {key: section.as_dict() for key, section in self.sections.items()}

    def sorted_by(self, key: str) -> Analysis:
        """Layers by one of SORT_KEYS: numbers from the largest down, unknown ones first; text from A to Z."""
        return replace(self, layers=in_order(self.layers, key))

    def top(self, count: int) -> Analysis:
        """The first `count` rows that do MACs or hold params; the totals stay those of the whole model.

        Sections are not cut: their findings may be about any layer.
        """
        listed = [row for row in self.layers if row.matters]
        note = f"the first {count} of {len(listed)} rows have {describe_share(listed[:count], self.totals)}"
        view = (*self.view, note) if count < len(listed) else self.view
        return replace(self, layers=listed[:count], view=view)

    def filtered(
        self, *, only: Sequence[str] = (), skip: Sequence[str] = (), ops: Sequence[str] = ()
    ) -> Analysis:
        """The layers whose name or module matches `only` and not `skip`, of the operators `ops`.

        All three hold globs. The totals stay those of the whole model; sections with entries per layer are
        filtered too. Raises UnknownLayer for a glob that matches none.
        """
        if not (only or skip or ops):
            return self
        layers = matching(self.layers, only, skip, ops)
        note = f"{len(layers)} of {len(self.layers)} nodes are chosen: {describe_share(layers, self.totals)}"
        names = {row.name for row in layers}
        sections = {
            key: one.among(names) if isinstance(one, ByLayer) else one for key, one in self.sections.items()
        }
        return replace(self, layers=layers, view=(*self.view, note), sections=sections)

    def grouped_by(self, key: str) -> Analysis:
        """One row for each op or module in place of one for each node, in order of first appearance."""
        return replace(self, layers=grouped(self.layers, key), by=key)

    def nested(self, depth: int) -> Analysis:
        """The modules as a tree of at most `depth` levels, each row the sum of those right below it."""
        return replace(self, layers=nested(self.layers, depth), by="module")

    def with_section(self, key: str, section: Section) -> Analysis:
        """The analysis with one more section, under this key in JSON."""
        return replace(self, sections={**self.sections, key: section})

    def tables(self) -> list[Table]:
        """Layers with totals, bottlenecks, uncounted operators, and the tables of each section."""
        return [*_main_tables(self), *(table for one in self.sections.values() for table in one.tables())]

    def __rich__(self) -> RenderableType:
        """The tables one below the other, for rich."""
        from modelsurgeon.report.text_layout import stacked

        return stacked(self.tables())


def _main_tables(found: Analysis) -> list[Table]:
    """Layers that do MACs or hold params, with totals; bottlenecks; and uncounted operators."""
    listed = [_layer_table(found)]
    if found.bottlenecks:
        listed.append(_list_table("Bottlenecks", found.bottlenecks, BOTTLENECK_COLUMNS))
    if found.uncounted:
        listed.append(_uncounted_table(found.uncounted))
    return listed


def _layer_table(found: Analysis) -> Table:
    totals = asdict(found.totals)
    bounds = found.lower_bounds
    notes = [
        memory_note(found.totals, bounds),
        *_bound_notes(bounds),
        *_constant_notes(found.constants),
        *_open_dimension_notes(found),
        *found.notes,
        *found.view,
    ]
    name = "total, at least" if bounds else "total"
    return Table(
        title=PurePath(str(found.model.get("path") or "model")).name,
        columns=LAYER_COLUMNS
        if all(row.level == 0 for row in found.layers)
        else (*LAYER_COLUMNS, LEVEL_COLUMN),
        rows=[{**vars(row), "output": row.output} for row in found.layers if row.matters],
        total={"name": name, **totals, "output_bytes": found.totals.activation_bytes},
        notes=[*notes, *_hidden_rows_note(found.layers, found.by)],
    )


def _list_table(title: str, entries: Sequence[Any], columns: Sequence[Column]) -> Table:
    return Table(title=title, columns=columns, rows=[vars(entry) for entry in entries])


def _uncounted_table(entries: Sequence[UncountedOperators]) -> Table:
    rows = [
        {**vars(entry), "first": entry.nodes[0] if entry.nodes else None, "reason": entry.summary}
        for entry in entries
    ]
    return Table(title="Not counted", columns=UNCOUNTED_COLUMNS, rows=rows)


def _bound_notes(bounds: Sequence[str]) -> list[str]:
    """A note that names the totals which are lower bounds."""
    words = [BOUND_TITLES[key] for key in bounds]
    return [f"at least: {', '.join(words)} leave something out, as said below"] if words else []


def _constant_notes(constants: Sequence[LeftOutConstants]) -> list[str]:
    """A note on floating constants that are no params, with the reasons."""
    if not constants:
        return []
    whole = show(sum(entry.bytes for entry in constants), "bytes")
    reasons = ", ".join(f"{len(entry.names)} ({entry.reason})" for entry in constants)
    return [f"constants that are no params take {whole}: {reasons}"]


def memory_note(sums: Totals, lower_bounds: Collection[str] = ()) -> str:
    """A sentence with FLOPs, bytes of activations and their peak, and batch-norm statistics."""
    more = {key: "at least " if key in lower_bounds else "" for key in ("flops", "activation_bytes")}
    statistics = f", {show(sums.bn_stats, 'count')} params are batch-norm statistics" if sums.bn_stats else ""
    return (
        f"{more['flops']}{show(sums.flops, 'count')} FLOPs; "
        f"activations {more['activation_bytes']}{show(sums.activation_bytes, 'bytes')}, "
        f"at most {show(sums.peak_activation_bytes, 'bytes')} at once{statistics}"
    )


def _hidden_rows_note(rows: Sequence[LayerRow], by: str) -> list[str]:
    """A note on the rows that the table leaves out."""
    rest = [row for row in rows if not row.matters]
    if not rest:
        return []
    if by != "node":
        return [f"{_more_have(len(rest), 'row')} no MACs and no params"]
    flops = show(sum(row.flops or 0 for row in rest), "count")
    return [f"{_more_have(len(rest), 'node')} no MACs and no params ({flops} FLOPs)"]


def _more_have(count: int, unit: str) -> str:
    return f"1 more {unit} has" if count == 1 else f"{count} more {unit}s have"


def _open_dimension_notes(found: Analysis) -> list[str]:
    """Notes on how the totals depend on open dimensions."""
    if not found.defaults:
        return []
    given = ", ".join(f"{name} = {size}" for name, size in found.defaults.items())
    formula = found.formulas.get("macs", "")
    macs = f"MACs = {formula}; " if 0 < len(formula) <= MAX_FORMULA_LENGTH else ""
    growth = [f"{word} ~ {found.growth[key]}" for key, word in GROWTH_TITLES.items() if key in found.growth]
    return [f"{macs}shown for {given}", *([f"growth: {', '.join(growth)}"] if growth else [])]
