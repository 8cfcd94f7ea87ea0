"""What `info` tells of a model: plain data that can show itself, whatever framework it was read from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from modelsurgeon.inspection.rows import Bottleneck, LayerRow, Totals, UncountedOperators
from modelsurgeon.inspection.views import grouped, in_order, matching, nested, share
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_FORMULA_LENGTH = 120  # a longer formula is left to JSON
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
    Column(key="reason", title="Reason", kind="prose"),
)


class Section(Protocol):
    """A further answer about a model, such as its memory: plain data that can show itself."""

    def as_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """What stands in JSON under the section's key."""

    def tables(self) -> Sequence[Table]:
        """What people read."""


@runtime_checkable
class ByLayer(Section, Protocol):
    """A section with entries for layers, of which some can be chosen."""

    def among(self, layers: Collection[str]) -> Section:
        """The entries for the layers of these names."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Static inspection of one model.

    formulas: totals as expressions in the open dimensions, where they could be derived; `totals` then holds
    their values at `defaults`, and `growth` the order in which they grow. notes: what had to be assumed.
    sections: what else was asked for, by JSON key.
    by: what a row is, `node` or one of GROUPS. view: which of the rows are shown, in words.
    """

    model: Mapping[str, Any]
    totals: Totals
    layers: Sequence[LayerRow]
    uncounted: Sequence[UncountedOperators] = ()
    bottlenecks: Sequence[Bottleneck] = ()
    formulas: Mapping[str, str] = field(default_factory=dict)
    growth: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)
    by: str = "node"
    view: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `modelsurgeon info`."""
        found = {
            "model": dict(self.model),
            "totals": asdict(self.totals),
            "layers": [row.as_dict() for row in self.layers],
            "uncounted": [asdict(entry) for entry in self.uncounted],
            "bottlenecks": [asdict(entry) for entry in self.bottlenecks],
            "notes": [*self.notes, *self.view],
        }
        if self.defaults:
            told = {"formulas": self.formulas, "growth": self.growth, "defaults": self.defaults}
            found |= {key: dict(value) for key, value in told.items()}
        return found | {key: section.as_dict() for key, section in self.sections.items()}

    def sorted_by(self, key: str) -> Analysis:
        """Layers by one of SORT_KEYS: numbers from the largest down, unknown ones first; text from A to Z."""
        return replace(self, layers=in_order(self.layers, key))

    def top(self, count: int) -> Analysis:
        """The first `count` rows that do MACs or hold params; the totals stay those of the whole model.

        Sections stay whole: what stands out in them may be anywhere.
        """
        listed = [row for row in self.layers if row.matters]
        told = f"the first {count} of {len(listed)} rows have {share(listed[:count], self.totals)}"
        view = (*self.view, told) if count < len(listed) else self.view
        return replace(self, layers=listed[:count], view=view)

    def filtered(
        self, *, only: Sequence[str] = (), skip: Sequence[str] = (), ops: Sequence[str] = ()
    ) -> Analysis:
        """The layers whose name or module fits `only` and not `skip`, of the operators `ops`; globs all.

        The totals stay those of the whole model; sections with entries for layers tell of these.
        Raises UnknownLayer for a glob that fits none.
        """
        if not (only or skip or ops):
            return self
        layers = matching(self.layers, only, skip, ops)
        told = f"{len(layers)} of {len(self.layers)} nodes are chosen: {share(layers, self.totals)}"
        names = {row.name for row in layers}
        sections = {
            key: one.among(names) if isinstance(one, ByLayer) else one for key, one in self.sections.items()
        }
        return replace(self, layers=layers, view=(*self.view, told), sections=sections)

    def grouped_by(self, key: str) -> Analysis:
        """One row for each op or module in place of one for each node, in order of first appearance."""
        return replace(self, layers=grouped(self.layers, key), by=key)

    def nested(self, depth: int) -> Analysis:
        """The modules as a tree of at most `depth` levels, each row the sum of those right below it."""
        return replace(self, layers=nested(self.layers, depth), by="module")

    def with_section(self, key: str, section: Section) -> Analysis:
        """With a further answer, under this key in JSON."""
        return replace(self, sections={**self.sections, key: section})

    def tables(self) -> list[Table]:
        """Layers with totals, what stands out, what isn't counted, and the tables of each section."""
        return [*_own_tables(self), *(table for one in self.sections.values() for table in one.tables())]

    def __rich__(self) -> RenderableType:
        """What rich prints: the tables one below the other."""
        from modelsurgeon.report.text_layout import stacked

        return stacked(self.tables())


def _own_tables(found: Analysis) -> list[Table]:
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
        columns=LAYER_COLUMNS
        if all(row.level == 0 for row in found.layers)
        else (*LAYER_COLUMNS, LEVEL_COLUMN),
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
    told = f"MACs = {formula}; " if 0 < len(formula) <= MAX_FORMULA_LENGTH else ""
    grows = [f"{word} ~ {found.growth[key]}" for key, word in GROWTH_TITLES.items() if key in found.growth]
    return [f"{told}shown for {given}", *([f"growth: {', '.join(grows)}"] if grows else [])]
