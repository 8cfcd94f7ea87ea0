"""What `info` tells of a model: plain data that can show itself, whatever framework it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from modelsurgeon.cells import show
from modelsurgeon.table import Column, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

Shape = tuple[int, ...]

SORT_KEYS = (
    *("name", "op", "module", "dtype", "macs", "flops", "bias_adds", "params", "param_bytes"),
    *("output_bytes", "mac_share", "param_share", "intensity", "runs"),
)
LONG = 120  # a longer formula is left to JSON
GROUPS = ("op", "module")
COLUMNS = (
    Column(key="name", title="Layer"),
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


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One node. Costs are those of one inference: `runs` times those of one run of the node.

    macs, flops, bias_adds, mac_share: None where they aren't known. runs: 0 in a branch that isn't counted.
    output_bytes: activations that one run produces. intensity: FLOPs for each byte read or written.
    """

    name: str
    op: str
    domain: str = ""
    module: str | None = None
    input_shapes: tuple[Shape | None, ...] = ()
    output_shapes: tuple[Shape | None, ...] = ()
    dtype: str | None = None
    macs: int | None = 0
    flops: int | None = 0
    bias_adds: int | None = 0
    params: int = 0
    param_bytes: int = 0
    output_bytes: int = 0
    mac_share: float | None = 0.0
    param_share: float = 0.0
    intensity: float | None = None
    runs: int = 1

    @property
    def output(self) -> Shape | None:
        """Shape of the first output."""
        return self.output_shapes[0] if self.output_shapes else None

    @property
    def matters(self) -> bool:
        """Whether it does MACs or holds params, or its cost isn't known."""
        return self.macs is None or bool(self.macs or self.params)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the model; see `info --definitions` for what each is."""

    macs: int = 0
    flops: int = 0
    bias_adds: int = 0
    params: int = 0
    param_bytes: int = 0
    bn_stats: int = 0
    activation_bytes: int = 0
    peak_activation_bytes: int = 0
    nodes: int = 0


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Operators whose cost isn't in the totals, and why."""

    op: str
    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """A layer that stands out, by which rule, with the evidence."""

    layer: str
    rule: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Static inspection of one model.

    formulas: totals as expressions in the open dimensions, where they could be derived; `totals` then holds
    their values at `defaults`. notes: what had to be assumed.
    """

    model: Mapping[str, Any]
    totals: Totals
    layers: Sequence[LayerRow]
    uncounted: Sequence[Uncounted] = ()
    bottlenecks: Sequence[Bottleneck] = ()
    formulas: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `modelsurgeon info`."""
        found = {
            "model": dict(self.model),
            "totals": asdict(self.totals),
            "layers": [asdict(row) for row in self.layers],
            "uncounted": [asdict(entry) for entry in self.uncounted],
            "bottlenecks": [asdict(entry) for entry in self.bottlenecks],
            "notes": list(self.notes),
        }
        if self.defaults:
            found |= {"formulas": dict(self.formulas), "defaults": dict(self.defaults)}
        return found

    def sorted_by(self, key: str) -> Analysis:
        """Layers by one of SORT_KEYS: numbers from the largest down, unknown ones first; text from A to Z."""
        if key not in SORT_KEYS:
            raise ValueError(f"layers are sorted by one of {', '.join(SORT_KEYS)}, not by {key!r}")
        return replace(self, layers=sorted(self.layers, key=lambda row: _rank(getattr(row, key))))

    def top(self, count: int) -> Analysis:
        """The first `count` layers that do MACs or hold params; the totals stay those of the whole model."""
        return replace(self, layers=[row for row in self.layers if row.matters][:count])

    def grouped_by(self, key: str) -> Analysis:
        """One row for each op or module in place of one for each node, in order of first appearance."""
        if key not in GROUPS:
            raise ValueError(f"layers are grouped by one of {', '.join(GROUPS)}, not by {key!r}")
        groups: dict[str, list[LayerRow]] = {}
        for row in self.layers:
            groups.setdefault(str(getattr(row, key) or row.name), []).append(row)
        return replace(self, layers=[_merged(name, rows) for name, rows in groups.items()])

    def tables(self) -> list[Table]:
        """The layers that do MACs or hold params, with totals; what stands out; and what isn't counted."""
        found = [self._layer_table()]
        if self.bottlenecks:
            found.append(_listing("Bottlenecks", self.bottlenecks, BOTTLENECK_COLUMNS))
        if self.uncounted:
            found.append(_listing("Not counted", self.uncounted, UNCOUNTED_COLUMNS))
        return found

    def __rich__(self) -> RenderableType:
        """What rich prints: the tables one below the other."""
        from rich.console import Group

        return Group(*self.tables())

    def _layer_table(self) -> Table:
        shown = [row for row in self.layers if row.matters]
        totals = asdict(self.totals)
        return Table(
            title=PurePath(str(self.model.get("path") or "model")).name,
            columns=COLUMNS,
            rows=[{**vars(row), "output": row.output} for row in shown],
            total={"name": "total", **totals, "output_bytes": self.totals.activation_bytes},
            notes=[self._memory(), *self._open(), *self.notes, *self._hidden()],
        )

    def _memory(self) -> str:
        sums = self.totals
        statistics = (
            f", {show(sums.bn_stats, 'count')} params are batch-norm statistics" if sums.bn_stats else ""
        )
        return (
            f"{show(sums.flops, 'count')} FLOPs; activations {show(sums.activation_bytes, 'bytes')}, "
            f"at most {show(sums.peak_activation_bytes, 'bytes')} at once{statistics}"
        )

    def _hidden(self) -> list[str]:
        """What the table leaves out."""
        rest = [row for row in self.layers if not row.matters]
        if not rest:
            return []
        flops = show(sum(row.flops or 0 for row in rest), "count")
        return [f"{len(rest)} more nodes have no MACs and no params ({flops} FLOPs)"]

    def _open(self) -> list[str]:
        """How the totals depend on open dimensions."""
        if not self.defaults:
            return []
        given = ", ".join(f"{name} = {size}" for name, size in self.defaults.items())
        formula = self.formulas.get("macs", "")
        told = f"MACs = {formula}; " if 0 < len(formula) <= LONG else ""
        return [f"{told}shown for {given}"]


def _rank(value: object) -> tuple[int, Any]:
    """Sorts unknown values first, numbers from the largest down, text from A to Z."""
    if value is None:
        return (0, 0)
    return (1, -value) if isinstance(value, int | float) else (1, value)


def _merged(name: str, rows: Sequence[LayerRow]) -> LayerRow:
    """Several rows as one; what one of them doesn't know, the sum doesn't either."""
    ops = {row.op for row in rows}

    def total(key: str) -> Any:  # noqa: ANN401
        values = [getattr(row, key) for row in rows]
        return None if None in values else sum(values)

    sums = ("macs", "flops", "bias_adds", "params", "param_bytes", "output_bytes", "mac_share", "param_share")
    return LayerRow(
        name=name,
        op=f"{len(rows)} nodes" if len(ops) > 1 else f"{len(rows)} {ops.pop()}",
        **{key: total(key) for key in sums},
    )


def _listing(title: str, entries: Sequence[Any], columns: Sequence[Column]) -> Table:
    return Table(title=title, columns=columns, rows=[vars(entry) for entry in entries])
