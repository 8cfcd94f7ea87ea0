"""How often every node runs in one inference: branches that are taken, loops that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.constant_folding import branch, scalar_constant
from modelsurgeon.onnx.graph.dataflow import subgraphs

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
BRANCH_ATTRIBUTES = ("then_branch", "else_branch")


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """One node, what one run of it costs, and how often it runs: 0 times in a branch that isn't counted."""

    node: ir.Node
    cost: Cost | Uncounted
    runs: Number

    @property
    def total(self) -> Cost:
        """What all its runs cost; nothing where that isn't known."""
        if not isinstance(self.cost, Cost):
            return Cost()
        return self.cost if self.runs == 1 else self.cost * self.runs


@dataclass(frozen=True, kw_only=True)
class RunCounter:
    """Visits every node of a bound model, and notes what couldn't be told from the file alone.

    shape_of: the shape of a value; None where it is unknown. unknown: nodes that inference could not do, with
    the reason. functions: those that couldn't be inlined. cost_of: what an operation costs.
    chosen: by name of an If whose condition isn't constant, the branch to count; filled with the dearer one.
    """

    names: Mapping[ir.Node, str]
    shape_of: Callable[[ir.Value], Shape | None]
    unknown: Mapping[ir.Node, str]
    functions: Mapping[ir.OperatorIdentifier, ir.Function] = field(default_factory=dict)
    cost_of: Callable[[ShapedNode], Cost | Uncounted] = cost_of
    chosen: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def visits(self, graph: ir.Graph, runs: Number = 1) -> list[NodeRun]:
        """Every node of a graph and, after it, those of its subgraphs."""
        return [
            visit
            for node in graph
            for visit in (NodeRun(node=node, cost=self.cost(node), runs=runs), *self._inside(node, runs))
        ]

    def cost(self, node: ir.Node) -> Cost | Uncounted:
        """What one run of a node costs; its subgraphs aren't part of it."""
        if (why := self.unknown.get(node)) is not None:
            return Uncounted(reason=why)
        if self.functions and node.op_identifier() in self.functions:
            return Uncounted(reason="a function that imports another opset than the model")
        if not node.domain and node.op_type in CONTROL_FLOW:
            return Cost()
        return self.cost_of(ShapedNode(node=node, shape_of=self.shape_of))

    def _inside(self, node: ir.Node, runs: Number) -> Iterator[NodeRun]:
        graphs = list(subgraphs(node))
        if not graphs:
            return
        if node.op_type == "If" and not node.domain and len(graphs) == len(BRANCH_ATTRIBUTES):
            yield from self._branches(node, runs)
            return
        trips = self._trips(node, graphs[0])
        if trips is None:
            self.notes.append(
                f"{self.names[node]}: counted per iteration, as its number of runs isn't constant"
            )
        for graph in graphs:
            yield from self.visits(graph, runs if trips is None else runs * trips)

    def _branches(self, node: ir.Node, runs: Number) -> Iterator[NodeRun]:
        inside = {name: self.visits(node.attributes.get_graph(name), runs) for name in BRANCH_ATTRIBUTES}
        taken = self._taken(node, inside)
        for name in BRANCH_ATTRIBUTES:
            yield from (visit if name == taken else replace(visit, runs=0) for visit in inside[name])

    def _taken(self, node: ir.Node, inside: Mapping[str, list[NodeRun]]) -> str:
        name, fixed = self.names[node], branch(node)
        if fixed is not None:
            return next(key for key in BRANCH_ATTRIBUTES if node.attributes.get_graph(key) is fixed)
        possible = [
            key for key in BRANCH_ATTRIBUTES if not any(visit.node in self.unknown for visit in inside[key])
        ]
        if name not in self.chosen:
            self.chosen[name] = max(possible or BRANCH_ATTRIBUTES, key=lambda key: _weight(inside[key]))
        why = "can't run at these sizes" if len(possible) == 1 else "is not dearer"
        other = next(key for key in BRANCH_ATTRIBUTES if key != self.chosen[name])
        self.notes.append(f"{name}: {self.chosen[name]} is counted, {other} {why}")
        return self.chosen[name]

    def _trips(self, node: ir.Node, body: ir.Graph) -> Number | None:
        """How often a body runs; None where that isn't constant."""
        if node.op_type == "Loop" and not node.domain:
            return _loop_trips(node, body)
        # Opset 8 has one input more, and a batch axis.
        if node.op_type == "Scan" and not node.domain and len(node.inputs) == len(body.inputs):
            return self._scan_trips(node)
        return None

    def _scan_trips(self, node: ir.Node) -> Number | None:
        """Length of the scanned axis."""
        count = node.attributes.get_int("num_scan_inputs", 1)
        axes = node.attributes.get_ints("scan_input_axes", None) or (0,) * count
        scanned = node.inputs[-count]
        shape = self.shape_of(scanned) if scanned is not None else None
        return None if shape is None else shape[axes[0]]


def _weight(visits: list[NodeRun]) -> tuple[Number, Number]:
    total = sum((visit.total for visit in visits), Cost())
    return total.macs, total.flops


def _loop_trips(node: ir.Node, body: ir.Graph) -> int | None:
    """The trip count of a Loop that nothing ends early."""
    limit, start = (*node.inputs, None, None)[:2]
    begins = True if start is None else scalar_constant(start)
    if begins is False:
        return 0
    trips = scalar_constant(limit)
    if trips is None or begins is None or len(body.inputs) < 2 or not body.outputs:
        return None
    goes_on: ir.Value | None = body.outputs[0]
    maker = body.outputs[0].producer()
    if maker is not None and maker.op_type == "Identity":
        goes_on = maker.inputs[0]
    return int(trips) if goes_on is body.inputs[1] or scalar_constant(goes_on) is True else None
