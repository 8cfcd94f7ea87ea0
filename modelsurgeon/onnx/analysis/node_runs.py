"""How often every node runs in one inference: branches that are taken, loops that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.constant_folding import scalar_constant, taken_branch
from modelsurgeon.onnx.graph.dataflow import subgraphs

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
BRANCH_ATTRIBUTES = ("then_branch", "else_branch")


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """A node, the cost of one run, and how often it runs: 0 times in a branch that isn't counted."""

    node: ir.Node
    cost: Cost | Uncounted
    times: Number

    @property
    def total(self) -> Cost:
        """Cost of all runs; zero where the operator is uncounted."""
        if not isinstance(self.cost, Cost):
            return Cost()
        return self.cost if self.times == 1 else self.cost * self.times


@dataclass(frozen=True, kw_only=True)
class RunCounter:
    """Counts how often every node of a bound model runs, and notes what the file alone doesn't determine.

    shape_of: the shape of a value; None where it is unknown. unknown: nodes where shape inference failed,
    with the reason. functions: those that couldn't be inlined. cost_of: the cost of an operation. chosen: by
    name of an If whose condition isn't constant, the branch to count; filled with the more expensive one.
    per_iteration: filled with the loops of which one iteration is counted. undecided: filled with the Ifs of
    which either branch may be taken.
    """

    names: Mapping[ir.Node, str]
    shape_of: Callable[[ir.Value], Shape | None]
    unknown: Mapping[ir.Node, str]
    functions: Mapping[ir.OperatorIdentifier, ir.Function] = field(default_factory=dict)
    cost_of: Callable[[ShapedNode], Cost | Uncounted] = cost_of
    chosen: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    per_iteration: dict[ir.Node, None] = field(default_factory=dict)
    undecided: dict[ir.Node, None] = field(default_factory=dict)

    def count(self, graph: ir.Graph, times: Number = 1) -> list[NodeRun]:
        """Runs of every node of a graph, each followed by those of its subgraphs."""
        return [
            run
            for node in graph
            for run in (NodeRun(node=node, cost=self.cost(node), times=times), *self._body_runs(node, times))
        ]

    def cost(self, node: ir.Node) -> Cost | Uncounted:
        """Cost of one run of a node, without its subgraphs."""
        if (reason := self.unknown.get(node)) is not None:
            return Uncounted(reason=reason)
        if self.functions and node.op_identifier() in self.functions:
            return Uncounted(reason="a function that imports another opset than the model")
        if not node.domain and node.op_type in CONTROL_FLOW:
            return Cost()
        return self.cost_of(ShapedNode(node=node, shape_of=self.shape_of))

    def _body_runs(self, node: ir.Node, times: Number) -> Iterator[NodeRun]:
        graphs = list(subgraphs(node))
        if not graphs:
            return
        if node.op_type == "If" and not node.domain and len(graphs) == len(BRANCH_ATTRIBUTES):
            yield from self._branch_runs(node, times)
            return
        trips = self._trip_count(node, graphs[0])
        if trips is None:
            self.per_iteration[node] = None
            self.notes.append(
                f"{self.names[node]}: counted per iteration, as its number of runs isn't constant"
            )
        for graph in graphs:
            yield from self.count(graph, times if trips is None else times * trips)

    def _branch_runs(self, node: ir.Node, times: Number) -> Iterator[NodeRun]:
        branch_runs = {name: self.count(node.attributes.get_graph(name), times) for name in BRANCH_ATTRIBUTES}
        counted = self._counted_branch(node, branch_runs)
        for name in BRANCH_ATTRIBUTES:
            yield from (run if name == counted else replace(run, times=0) for run in branch_runs[name])

    def _counted_branch(self, node: ir.Node, branch_runs: Mapping[str, list[NodeRun]]) -> str:
        name, constant = self.names[node], taken_branch(node)
        if constant is not None:
            return next(key for key in BRANCH_ATTRIBUTES if node.attributes.get_graph(key) is constant)
        possible = [
            key for key in BRANCH_ATTRIBUTES if not any(run.node in self.unknown for run in branch_runs[key])
        ]
        if name not in self.chosen:
            self.chosen[name] = max(
                possible or BRANCH_ATTRIBUTES, key=lambda key: _macs_and_flops(branch_runs[key])
            )
        if len(possible) != 1:
            self.undecided[node] = None
        reason = "can't run at these sizes" if len(possible) == 1 else "costs no more"
        other = next(key for key in BRANCH_ATTRIBUTES if key != self.chosen[name])
        self.notes.append(f"{name}: {self.chosen[name]} is counted, {other} {reason}")
        return self.chosen[name]

    def _trip_count(self, node: ir.Node, body: ir.Graph) -> Number | None:
        """How often a loop body runs; None where that isn't constant."""
        if node.op_type == "Loop" and not node.domain:
            return _loop_trip_count(node, body)
        # Scan of opset 8 has one more input and a batch axis.
        if node.op_type == "Scan" and not node.domain and len(node.inputs) == len(body.inputs):
            return self._scan_length(node)
        return None

    def _scan_length(self, node: ir.Node) -> Number | None:
        """Length of the scanned axis; None where it is unknown."""
        count = node.attributes.get_int("num_scan_inputs", 1)
        axes = node.attributes.get_ints("scan_input_axes", None) or (0,) * count
        scanned = node.inputs[-count]
        shape = self.shape_of(scanned) if scanned is not None else None
        return None if shape is None else shape[axes[0]]


def _macs_and_flops(node_runs: list[NodeRun]) -> tuple[Number, Number]:
    total = sum((run.total for run in node_runs), Cost())
    return total.macs, total.flops


def _loop_trip_count(node: ir.Node, body: ir.Graph) -> int | None:
    """Trip count of a Loop that can't end early; None where it isn't constant."""
    limit, start = (*node.inputs, None, None)[:2]
    first_condition = True if start is None else scalar_constant(start)
    if first_condition is False:
        return 0
    trips = scalar_constant(limit)
    if trips is None or first_condition is None or len(body.inputs) < 2 or not body.outputs:
        return None
    condition: ir.Value | None = body.outputs[0]
    producer = body.outputs[0].producer()
    if producer is not None and producer.op_type == "Identity":
        condition = producer.inputs[0]
    return int(trips) if condition is body.inputs[1] or scalar_constant(condition) is True else None
