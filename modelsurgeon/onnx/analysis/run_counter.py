"""How often every node runs in one inference: branches that are taken, loops that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.constant_folding import taken_branch
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.shapes.body_inputs import is_batched_scan, scan_axes, scan_inputs
from modelsurgeon.onnx.shapes.dimensions import Condition, Dim, expression_of, integer_of
from modelsurgeon.onnx.shapes.loops import LOOP_KEY, trip_count
from modelsurgeon.onnx.shapes.sequence_elements import elements

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
BRANCH_ATTRIBUTES = ("then_branch", "else_branch")
MAX_SENSIBLE_LIMIT = 10**6  # exporters write a larger one where there is no limit


@dataclass(frozen=True, kw_only=True)
class RunCounter:
    """Counts how often every node of a bound model runs, and notes what the file alone doesn't determine.

    shape_of: the shape of a value; None where it is unknown. unknown: nodes where shape inference failed,
    with the reason. functions: those that couldn't be inlined. cost_of: the cost of an operation. symbols:
    those that counts may have, such as numbers of iterations. conditions: by name of an If, its condition in
    open sizes. chosen: by name of an If, the branch to count; filled with the one that is taken, or else the
    more expensive one. per_iteration: filled with the loops of which one iteration is counted. undecided:
    filled with the Ifs of which either branch may be taken.
    """

    names: Mapping[ir.Node, str]
    shape_of: Callable[[ir.Value], Shape | None]
    unknown: Mapping[ir.Node, str]
    functions: Mapping[ir.OperatorIdentifier, ir.Function] = field(default_factory=dict)
    cost_of: Callable[[ShapedNode], Cost | Uncounted] = cost_of
    symbols: frozenset[str] = frozenset()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    per_iteration: dict[ir.Node, None] = field(default_factory=dict)
    undecided: dict[ir.Node, None] = field(default_factory=dict)

    def count(self, graph: ir.Graph) -> list[NodeRun]:
        """Runs of every node in one run of a graph, each followed by those of its subgraphs."""
        return [
            run
            for node in graph
            for run in (NodeRun(node=node, cost=self.cost(node), times=1), *self._body_runs(node))
        ]

    def fresh(self) -> RunCounter:
        """The same counter, without notes and without the nodes that it has met."""
        return replace(self, notes=[], per_iteration={}, undecided={})

    def _adopt(self, counter: RunCounter) -> None:
        """Add what another counter has noted and met."""
        self.notes.extend(counter.notes)
        self.per_iteration.update(counter.per_iteration)
        self.undecided.update(counter.undecided)

    def cost(self, node: ir.Node) -> Cost | Uncounted:
        """Cost of one run of a node, without its subgraphs."""
        if (reason := self.unknown.get(node)) is not None:
            return Uncounted(reason=reason)
        if self.functions and node.op_identifier() in self.functions:
            return Uncounted(reason="a function that is given a graph as an attribute: inline it first")
        if not node.domain and node.op_type in CONTROL_FLOW:
            return Cost()
        return self.cost_of(ShapedNode(node=node, shape_of=self.shape_of))

    def _body_runs(self, node: ir.Node) -> Iterator[NodeRun]:
        graphs = list(subgraphs(node))
        if not graphs:
            return
        if node.op_type == "If" and not node.domain and len(graphs) == len(BRANCH_ATTRIBUTES):
            yield from self._branch_runs(node)
            return
        trips, iteration = self._trip_count(node, graphs[0]), _iteration(node, graphs[0])
        if trips is None:
            self.per_iteration[node] = None
            self.notes.append(
                f"{self.names[node]}: counted per iteration, as its number of runs isn't constant"
                f"{_trip_limit(node)}"
            )
        for graph in graphs:
            yield from (_repeated(run, trips, iteration) for run in self.count(graph))

    def _branch_runs(self, node: ir.Node) -> Iterator[NodeRun]:
        counters = {name: self.fresh() for name in BRANCH_ATTRIBUTES}
        branch_runs = {
            name: counter.count(node.attributes.get_graph(name)) for name, counter in counters.items()
        }
        condition = self._condition(node)
        if condition is not None:
            if (chosen := self.chosen.get(self.names[node])) is not None:
                self._adopt(counters[chosen])
            yield from self._conditional_runs(node, condition, branch_runs)
            return
        counted = self._counted_branch(node, branch_runs)
        self._adopt(counters[counted])
        for name in BRANCH_ATTRIBUTES:
            yield from (run if name == counted else _never(run) for run in branch_runs[name])

    def _condition(self, node: ir.Node) -> Condition | None:
        """The condition of an If in known symbols; None where it is constant or depends on data."""
        if not self.symbols or taken_branch(node) is not None:
            return None
        from modelsurgeon.onnx.shapes.conditions import branch_condition

        condition = branch_condition(node)
        if condition is None or not condition.free_symbols or not self._is_known(condition):
            return None
        return condition

    def _conditional_runs(
        self, node: ir.Node, condition: Condition, branch_runs: Mapping[str, list[NodeRun]]
    ) -> Iterator[NodeRun]:
        """Runs of both branches, each as often as the condition takes it."""
        from modelsurgeon.onnx.analysis.repetition import where
        from modelsurgeon.onnx.shapes.conditions import opposite

        self._note_sizes(self.names[node])
        for name, met in zip(BRANCH_ATTRIBUTES, (condition, opposite(condition)), strict=True):
            for run in branch_runs[name]:
                varying = None if run.varying is None else run.varying * where(met)
                yield replace(run, times=run.times * where(met), varying=varying)

    def _note_sizes(self, name: str) -> None:
        """Note for which sizes an If takes the branch that it takes at those which are counted."""
        condition, counted = self.conditions.get(name), self.chosen.get(name)
        if condition is not None and counted is not None:
            from modelsurgeon.onnx.shapes.conditions import opposite

            then, other = BRANCH_ATTRIBUTES
            met = condition if counted == then else opposite(condition)
            self.notes.append(
                f"{name}: {counted} is counted, taken where {met}; else {other if counted == then else then}"
            )

    def _is_known(self, expression: Number) -> bool:
        return {str(symbol) for symbol in expression.free_symbols} <= self.symbols

    def _counted_branch(self, node: ir.Node, branch_runs: Mapping[str, list[NodeRun]]) -> str:
        name, constant = self.names[node], taken_branch(node)
        if constant is not None:
            taken = next(key for key in BRANCH_ATTRIBUTES if node.attributes.get_graph(key) is constant)
            if name in self.conditions:
                self.chosen[name] = taken
                self._note_sizes(name)
            return taken
        possible = [
            key
            for key in BRANCH_ATTRIBUTES
            if not any(run.node in self.unknown and run.times != 0 for run in branch_runs[key])
        ]
        if name not in self.chosen:
            self.chosen[name] = max(
                possible or BRANCH_ATTRIBUTES, key=lambda key: _macs_and_flops(branch_runs[key])
            )
        if len(possible) != 1:
            self.undecided[node] = None
        other = next(key for key in BRANCH_ATTRIBUTES if key != self.chosen[name])
        if len(possible) == 1:
            reason = "can't run at these sizes"
        elif any(isinstance(run.cost, Uncounted) and run.times != 0 for run in branch_runs[other]):
            reason = "may cost more: a part of it isn't counted"
        else:
            reason = "costs no more"
        self.notes.append(f"{name}: {self.chosen[name]} is counted, {other} {reason}")
        return self.chosen[name]

    def _trip_count(self, node: ir.Node, body: ir.Graph) -> Number | None:
        """How often a body runs; None where that isn't known."""
        if node.domain:
            return None
        if node.op_type == "Loop":
            trips = self._number(trip_count(node))
            return self._scan_output_length(node, body) if trips is None else trips
        if node.op_type == "Scan":
            return self._scan_length(node, body)
        return self._number(elements(node.inputs[0]).length) if node.op_type == "SequenceMap" else None

    def _scan_output_length(self, node: ir.Node, body: ir.Graph) -> Number | None:
        """Length of an output of a Loop that has an element for each iteration; None where it is unknown."""
        states = len(body.inputs) - 2
        for output in node.outputs[states:]:
            shape = self.shape_of(output) if output.name else None
            if shape:
                return shape[0]
        return None

    def _scan_length(self, node: ir.Node, body: ir.Graph) -> Number | None:
        """Length of the scanned axis, for each sample of a batch; None where it is unknown."""
        inputs, axes = scan_inputs(node, body), scan_axes(node, body)
        scanned = inputs[-len(axes)] if 0 < len(axes) <= len(inputs) else None
        shape = self.shape_of(scanned) if scanned is not None else None
        if shape is None or (is_batched_scan(node, body) and node.inputs[0] is not None):
            return None
        return prod(shape[:2]) if is_batched_scan(node, body) else _at(shape, axes[0])

    def _number(self, dim: Dim | None) -> Number | None:
        """A size as a number or an expression in known symbols; None where it has others."""
        if dim is None or isinstance(dim, int):
            return dim
        expression = expression_of(dim)
        return expression if expression is not None and self._is_known(expression) else None


def _at(shape: Shape, axis: int) -> Number | None:
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _repeated(run: NodeRun, trips: Number | None, iteration: Number | None) -> NodeRun:
    """A run in each of several iterations. iteration: the symbol in which its cost may change.

    Where the number of iterations is unknown, the first counts.
    """
    if iteration is not None:
        from modelsurgeon.onnx.analysis import repetition

        if repetition.varies(run, iteration):
            return repetition.summed_run(run, trips, iteration)
    if trips is None:
        return run
    varying = None if run.varying is None else run.varying * trips
    return replace(run, times=run.times * trips, varying=varying)


def _never(run: NodeRun) -> NodeRun:
    return replace(run, times=0, varying=None)


def _iteration(node: ir.Node, body: ir.Graph) -> Number | None:
    """The symbol of a Loop's iteration in the sizes of its body."""
    return body.meta[LOOP_KEY].symbol if node.op_type == "Loop" and LOOP_KEY in body.meta else None


def _trip_limit(node: ir.Node) -> str:
    """The largest number of iterations of a Loop that may end early, for a note."""
    limit = integer_of(node.inputs[0]) if node.op_type == "Loop" and node.inputs else None
    return f" (at most {limit})" if isinstance(limit, int) and limit <= MAX_SENSIBLE_LIMIT else ""


def _macs_and_flops(node_runs: Sequence[NodeRun]) -> tuple[Number, Number]:
    """Costs of a branch, to compare it with another: those of the first iterations, where they change."""
    total = sum((run.total for run in node_runs), Cost())
    return _with_ones(total.macs), _with_ones(total.flops)


def _with_ones(number: Number) -> Number:
    symbols = getattr(number, "free_symbols", ())
    return number.subs(dict.fromkeys(symbols, 1)) if symbols else number
