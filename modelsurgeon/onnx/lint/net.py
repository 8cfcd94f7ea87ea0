"""What a rule looks at: a bound model with what is known of its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.findings import Roofline
from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.analysis.node_runs import NodeRun
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
DENSE = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})

# FLOPs for each byte from memory: about what processors do in float32, on a CPU as on a GPU (19.5 TFLOP/s
# over 1.6 TB/s are 12, 100 GFLOP/s over 10 GB/s are 10).
DEFAULT_BALANCE = 10.0
MAX_PREDECESSORS = 8  # layers before a layer; the sum that runs through a residual net holds all there are


@dataclass(frozen=True, kw_only=True, eq=False)
class NetLayer:
    """A layer with MACs, and the ones whose results reach it with no other such layer between."""

    row: LayerRow
    node: ir.Node
    before: tuple[NetLayer, ...]

    @property
    def macs(self) -> int:
        """MACs of one inference."""
        return self.row.macs or 0

    @property
    def mac_share(self) -> float:
        """Its part of all MACs."""
        return self.row.mac_share or 0.0

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, so that its second axis holds channels and the others a map."""
        return self.row.op in CONVOLUTIONS

    @cached_property
    def channels(self) -> int:
        """Output channels of a convolution, output features of a dense layer; 0 where unknown."""
        shape = self.row.output
        return shape[1 if self.convolves else -1] if shape and len(shape) > 1 else 0

    @cached_property
    def area(self) -> int:
        """Positions of a convolution's output map; 1 for all else."""
        return prod(self.row.output[2:]) if self.row.output and self.convolves else 1

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved by itself."""
        weight = self.row.input_shapes[1] if len(self.row.input_shapes) > 1 else None
        return self.node.attributes.get_int("group", 1) > 1 and weight is not None and weight[1] == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Net:
    """A bound model, its nodes' costs, its constant values, and the machine it is judged for.

    visits, rows: of every node, in the same order. balance: FLOPs for each byte of memory traffic.
    opened: shapes by name before open sizes got their defaults; empty where none were open.
    """

    model: ir.Model
    visits: Sequence[NodeRun]
    rows: Sequence[LayerRow]
    fixed: set[ir.Value]
    balance: float = DEFAULT_BALANCE
    opened: Mapping[str, ir.Shape | None] = field(default_factory=dict)

    @cached_property
    def row_of(self) -> dict[ir.Node, LayerRow]:
        """The row of every node."""
        return {visit.node: row for visit, row in zip(self.visits, self.rows, strict=True)}

    @cached_property
    def places(self) -> list[NetLayer]:
        """The layers with MACs; inside branches and loops it isn't followed who feeds whom."""
        places = {
            node: NetLayer(row=row, node=node, before=()) for node, row in self.row_of.items() if row.macs
        }
        reach: dict[ir.Value, list[ir.Node]] = {}
        order = {node: number for number, node in enumerate(places)}
        for node in self.model.graph:
            makers = {maker for value in inputs_and_captures(node) for maker in reach.get(value, ())}
            before = sorted(makers, key=order.__getitem__)[-MAX_PREDECESSORS:]
            if node in places:
                places[node] = replace(places[node], before=tuple(places[maker] for maker in before))
                before = [node]
            reach.update(dict.fromkeys(node.outputs, before))
        return list(places.values())

    @cached_property
    def followers(self) -> dict[NetLayer, list[NetLayer]]:
        """The layers that each layer's results reach with no other such layer between."""
        found: dict[NetLayer, list[NetLayer]] = {}
        for place in self.places:
            for earlier in place.before:
                found.setdefault(earlier, []).append(place)
        return found

    @cached_property
    def graphs(self) -> list[ir.Graph]:
        """The main graph and all inside its nodes."""
        return list(self.model.graphs())

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of all that the nodes produce."""
        return sum(row.output_bytes for row in self.rows)

    @cached_property
    def time(self) -> float:
        """Time of all nodes by the roofline, in the bytes that memory moves meanwhile."""
        return sum(self.time_of(row) for row in self.rows)

    @property
    def roofline(self) -> Roofline:
        """What share of that time is spent on memory."""
        waits = sum(self.time_of(row) for row in self.rows if self.waits(row))
        return Roofline(balance=self.balance, memory_bound_share=waits / self.time if self.time else 0.0)

    def is_open(self, value: ir.Value | None, axis: int) -> bool:
        """Whether the size of an axis depends on what the model leaves open."""
        shape = self.opened.get(str(value.name)) if value is not None else None
        return bool(self.opened) and (shape is None or not isinstance(shape[axis], int))

    def time_of(self, row: LayerRow) -> float:
        """Time of a node by the roofline; 0 where its cost isn't known."""
        if not row.flops or not row.intensity:
            return 0.0
        return row.flops / min(self.balance, row.intensity)

    def waits(self, row: LayerRow) -> bool:
        """Whether a node's bytes take longer than its FLOPs."""
        return row.intensity is not None and row.intensity < self.balance

    def nodes(self, *ops: str) -> Iterator[tuple[ir.Node, LayerRow]]:
        """Nodes of these standard operators that run, and work on more than constants."""
        for node, row in self.row_of.items():
            if (
                node.op_type in ops
                and not node.domain
                and row.runs
                and not self.fixed.issuperset(node.outputs)
            ):
                yield node, row
