"""The input of a rule: a bound model with the costs of its nodes, and how its layers are connected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.findings import Roofline
from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.graph.constant_folding import taken_branch
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures, subgraphs
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.lint.verbs import Verbs

CONVOLUTION_OPERATORS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
DENSE_OPERATORS = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})

# FLOPs per byte of memory traffic: about the balance of processors in float32, for a CPU as for a GPU
# (19.5 TFLOP/s over 1.6 TB/s are 12, 100 GFLOP/s over 10 GB/s are 10).
DEFAULT_BALANCE = 10.0
MAX_PREDECESSORS = 8  # of a layer; the residual stream of a net would have all layers before it


@dataclass(frozen=True, kw_only=True, eq=False)
class NetLayer:
    """A node with MACs, and those before it whose outputs reach it with no other such node between."""

    row: LayerRow
    node: ir.Node
    predecessors: tuple[NetLayer, ...]

    @property
    def macs(self) -> int:
        """MACs of one inference."""
        return self.row.macs or 0

    @property
    def mac_share(self) -> float:
        """Its share of all MACs."""
        return self.row.mac_share or 0.0

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution: the second axis of its output holds channels, the next ones a map."""
        return self.row.op in CONVOLUTION_OPERATORS

    @cached_property
    def channels(self) -> int:
        """Output channels of a convolution, output features of a dense layer; 0 where unknown."""
        shape = self.row.output
        return shape[1 if self.is_convolution else -1] if shape and len(shape) > 1 else 0

    @cached_property
    def area(self) -> int:
        """Positions of a convolution's output map; 1 for all other layers."""
        return prod(self.row.output[2:]) if self.row.output and self.is_convolution else 1

    @property
    def depthwise(self) -> bool:
        """Whether every input channel has kernels of its own, as `Layer.is_depthwise`: no weight is read."""
        weight = self.row.input_shapes[1] if len(self.row.input_shapes) > 1 else None
        return self.node.attributes.get_int("group", 1) > 1 and weight is not None and weight[1] == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Net:
    """A bound model, the costs of its nodes, its constant values, and the balance of the machine.

    node_runs, rows: of every node, in the same order. balance: FLOPs per byte of memory traffic.
    symbolic_shapes: shapes by value before open sizes got their defaults; empty where none were open. verbs:
    what they would do to the model; None where nothing is advised.
    """

    model: ir.Model
    node_runs: Sequence[NodeRun]
    rows: Sequence[LayerRow]
    constants: set[ir.Value]
    balance: float = DEFAULT_BALANCE
    symbolic_shapes: Mapping[ir.Value, ir.Shape | None] = field(default_factory=dict)
    verbs: Verbs | None = None

    @cached_property
    def row_of(self) -> dict[ir.Node, LayerRow]:
        """The row of every node."""
        return {run.node: row for run, row in zip(self.node_runs, self.rows, strict=True)}

    @cached_property
    def layers(self) -> list[NetLayer]:
        """The layers with MACs; those inside branches and loops have no predecessors."""
        layers = {
            node: NetLayer(row=row, node=node, predecessors=())
            for node, row in self.row_of.items()
            if row.macs
        }
        reaching: dict[ir.Value, list[ir.Node]] = {}
        order = {node: number for number, node in enumerate(layers)}
        for node in self.model.graph:
            producers = {
                producer for value in inputs_and_captures(node) for producer in reaching.get(value, ())
            }
            predecessors = sorted(producers, key=order.__getitem__)[-MAX_PREDECESSORS:]
            if node in layers:
                layers[node] = replace(
                    layers[node], predecessors=tuple(layers[producer] for producer in predecessors)
                )
                predecessors = [node]
            reaching.update(dict.fromkeys(node.outputs, predecessors))
        return list(layers.values())

    @cached_property
    def successors(self) -> dict[NetLayer, list[NetLayer]]:
        """The layers that each layer's output reaches with no other such layer between."""
        found: dict[NetLayer, list[NetLayer]] = {}
        for layer in self.layers:
            for predecessor in layer.predecessors:
                found.setdefault(predecessor, []).append(layer)
        return found

    @cached_property
    def graphs(self) -> list[ir.Graph]:
        """The main graph and all subgraphs."""
        return list(self.model.graphs())

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of all node outputs."""
        return sum(row.output_bytes for row in self.rows)

    @cached_property
    def time(self) -> float:
        """Time of all nodes by the roofline, in bytes: what memory could move in that time."""
        return sum(self.time_of(row) for row in self.rows)

    @property
    def roofline(self) -> Roofline:
        """Balance of the machine, and the share of the time in memory-bound nodes."""
        memory_time = sum(self.time_of(row) for row in self.rows if self.is_memory_bound(row))
        return Roofline(
            balance=self.balance, memory_bound_share=memory_time / self.time if self.time else 0.0
        )

    def is_open(self, value: ir.Value | None, axis: int) -> bool:
        """Whether the size of an axis depends on a size that the model leaves open."""
        shape = self.symbolic_shapes.get(value) if value is not None else None
        return bool(self.symbolic_shapes) and (shape is None or not isinstance(shape[axis], int))

    def time_of(self, row: LayerRow) -> float:
        """Time of a node by the roofline, in bytes; 0 where its cost is unknown."""
        if not row.flops or not row.intensity:
            return 0.0
        return row.flops / min(self.balance, row.intensity)

    def is_memory_bound(self, row: LayerRow) -> bool:
        """Whether a node's memory traffic takes longer than its FLOPs."""
        return row.intensity is not None and row.intensity < self.balance

    def nodes(self, *ops: str, uncounted: bool = False) -> Iterator[tuple[ir.Node, LayerRow]]:
        """Nodes of these standard operators that run, with their rows; without constant ones.

        uncounted: also those in a branch that isn't counted but may run.
        """
        for node, row in self.row_of.items():
            if (
                node.op_type in ops
                and not node.domain
                and (row.runs or (uncounted and self.may_run(node)))
                and not self.constants.issuperset(node.outputs)
            ):
                yield node, row

    def may_run(self, node: ir.Node) -> bool:
        """Whether a node isn't in a branch that a constant condition excludes."""
        return node.graph not in self._excluded_graphs

    @cached_property
    def _excluded_graphs(self) -> set[ir.Graph | ir.Function | None]:
        """Branches that a constant condition excludes, and all graphs inside them."""
        excluded: set[ir.Graph | ir.Function | None] = set()
        for node in nodes(self.model):
            taken = taken_branch(node) if node.op_type == "If" and not node.domain else None
            if taken is not None or node.graph in excluded:
                for graph in subgraphs(node):
                    if graph is not taken or node.graph in excluded:
                        excluded.update((graph, *graph.subgraphs()))
        return excluded
