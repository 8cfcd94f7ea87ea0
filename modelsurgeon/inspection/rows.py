"""Rows of an analysis: nodes, totals, uncounted operators and bottlenecks, for any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One node. Costs are those of one inference: `runs` times the cost of one run of the node.

    macs, flops, bias_adds, mac_share: None where they aren't known. runs: 0 in a branch that isn't counted.
    output_bytes: activations that one run produces. intensity: FLOPs for each byte read or written.
    formulas: macs, flops and bias_adds in the open dimensions, where they could be derived.
    level: depth in a tree of modules, the number of rows that contain this one; rows of level 0 add up to the
    totals.
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
    formulas: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row in JSON; with formulas if there are any."""
        found = dict(vars(self))
        if not self.formulas:
            del found["formulas"]
        return found

    level: int = 0

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
    """Sums over the model; `info --definitions` defines each."""

    macs: int = 0
    flops: int = 0
    bias_adds: int = 0
    params: int = 0
    param_bytes: int = 0
    bn_stats: int = 0
    constants: int = 0
    constant_bytes: int = 0
    attribute_bytes: int = 0
    activation_bytes: int = 0
    peak_activation_bytes: int = 0
    nodes: int = 0


# Titles of a model's costs, where totals are the rows of a table.
COST_TITLES = {
    "macs": "MACs",
    "flops": "FLOPs",
    "params": "params",
    "param_bytes": "param bytes",
    "activation_bytes": "activation bytes",
    "peak_activation_bytes": "peak activation bytes",
}


@dataclass(frozen=True, kw_only=True)
class UncountedOperators:
    """An operator whose cost isn't in the totals: its number of nodes, and the reason.

    nodes: their names. behind: operators that aren't counted either, as the size of an output of these nodes
    isn't known, each with the number of its nodes.
    """

    op: str
    count: int
    reason: str
    nodes: Sequence[str] = ()
    behind: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The reason, and in words what is behind."""
        if not self.behind:
            return self.reason
        ops = ", ".join(f"{op} {count}" for op, count in sorted(self.behind.items(), key=_most_first))
        total = sum(self.behind.values())
        return f"{self.reason}; nor {'is 1 node' if total == 1 else f'are {total} nodes'} behind it: {ops}"


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


@dataclass(frozen=True, kw_only=True)
class LeftOutConstants:
    """Floating constants that are no params, for one reason. names: of the tensors. bytes: as stored."""

    reason: str
    names: Sequence[str]
    elements: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that totals leave out or assume. totals: their keys.

    op, nodes: the operator that is the cause, and the names of its nodes. behind: how many more nodes aren't
    counted because of these. advice: what to do; empty where the reason says it. assumed: whether totals
    depend on an assumption, so that the right figures may be smaller, too.
    """

    totals: Sequence[str]
    op: str
    nodes: Sequence[str]
    reason: str
    advice: str = ""
    behind: int = 0
    assumed: bool = False

    def __str__(self) -> str:
        """The gap in a few words: what is left out, why, and what to do."""
        more = f" and {len(self.nodes) - 1} more" if len(self.nodes) > 1 else ""
        name = f" {self.nodes[0]!r}{more}" if self.nodes else ""
        behind = f", with {self.behind} nodes behind it" if self.behind > 1 else ""
        behind = ", with 1 node behind it" if self.behind == 1 else behind
        return f"{self.op}{name}{behind} ({self.reason}{f': {self.advice}' if self.advice else ''})"


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """A layer that dominates the cost: the rule that found it, and its evidence as a sentence."""

    layer: str
    rule: str
    message: str
