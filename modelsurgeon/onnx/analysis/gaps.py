"""What the totals leave out, by the node that is the cause: an operator without a cost, a size not known.

A node whose output has no size makes everything behind it uncounted. Only that node, the root, is named;
the nodes behind it are summed up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.inspection.rows import Gap, UncountedOperators
from modelsurgeon.onnx.analysis.memory import Memory
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.run_counter import RunCounter
from modelsurgeon.onnx.costs import Uncounted
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures, subgraphs
from modelsurgeon.onnx.graph.map_types import map_type
from modelsurgeon.onnx.shapes import Dims
from modelsurgeon.onnx.shapes.run_time.sizes import run_time_sizes

MACS, OPERATIONS = ("macs", "flops", "bias_adds"), ("flops",)
PARAMS = ("params", "param_bytes")
ACTIVATIONS = ("activation_bytes", "peak_activation_bytes")
BIND = "bind open sizes with --shape or --dim, or state the shape in the file"
PER_ITERATION = "its number of iterations isn't known, and one is counted"
CONSTANT_TRIPS = "a constant trip count without an early end is needed"
UNSIZED_INPUT = "its size isn't known"
UNSIZED = "the size of its output isn't known"


@dataclass(kw_only=True)
class Root:
    """A node that is the cause of a gap. totals: those that leave something out for it.

    counted: whether the cost of the node itself is known. behind: how often each operator is uncounted only
    because the size of an output of this node isn't known.
    """

    node: ir.Node
    reason: str
    advice: str = BIND
    counted: bool = True
    totals: dict[str, None] = field(default_factory=dict)
    behind: Counter[str] = field(default_factory=Counter)

    @property
    def op(self) -> str:
        """The operator, with its domain if it isn't the standard one."""
        return operator_name(self.node)


def operator_name(node: ir.Node) -> str:
    """An operator as it is shown: `MatMul`, or `com.microsoft::Gelu`."""
    return f"{node.domain}::{node.op_type}".removeprefix("::")


def roots(graph: ir.Graph, node_runs: Sequence[NodeRun], counter: RunCounter, memory: Memory) -> list[Root]:
    """The roots of all gaps, in file order; none where every total is whole."""
    uncounted_runs = [run for run in node_runs if isinstance(run.cost, Uncounted)]
    if not memory.unknown and not counter.per_iteration and not uncounted_runs:
        return []
    tracer = _Tracer(
        runs={run.node: run for run in node_runs if bool(run.times)},
        unrun={run.node: run.cost for run in uncounted_runs if not bool(run.times)},  # type: ignore[misc]
        counter=counter,
    )
    tracer.trace(graph)
    for value in memory.unknown_values:
        root = tracer.cause_of(value)
        if root is not None:
            root.totals.update(dict.fromkeys(ACTIVATIONS))
    return [root for root in tracer.roots.values() if root.totals]


@dataclass(kw_only=True)
class _Tracer:
    """Follows values of unknown size from node to node. origins: the root of each.

    runs: of the nodes that run. unrun: why the cost of others isn't known.
    """

    runs: Mapping[ir.Node, NodeRun]
    unrun: Mapping[ir.Node, Uncounted]
    counter: RunCounter
    roots: dict[ir.Node, Root] = field(default_factory=dict)
    origins: dict[ir.Value, Root] = field(default_factory=dict)

    def trace(self, graph: ir.Graph) -> None:
        """Find the roots among the nodes of a graph and of those inside it."""
        for node in graph:
            self._trace_node(node, self.runs.get(node))

    def cause_of(self, value: ir.Value) -> Root | None:
        """The root of a value of unknown size; its own producer where no other is known."""
        producer = value.producer()
        if value in self.origins or producer is None:
            return self.origins.get(value)
        return self._root(producer, *_why_unsized(value, "its output"))

    def _trace_node(self, node: ir.Node, run: NodeRun | None) -> None:
        """Trace a node and its bodies. run: None in a branch that isn't counted; it may be a root, too."""
        before = self._first_origin(inputs_and_captures(node))
        bodies = list(subgraphs(node))
        for body in bodies:
            if before is not None:
                self.origins.update((value, before) for value in body.inputs if self._is_unsized(value))
            self.trace(body)
        cause = before or self._first_origin(value for body in bodies for value in body.outputs)
        if run is not None:
            self._add_run(node, run, cause)
        unsized = [value for value in node.outputs if value.name and self._is_unsized(value)]
        if unsized:
            root = cause or self._root(node, *_why_unsized(unsized[0], "its output"))
            self.origins.update((value, root) for value in unsized)

    def _add_run(self, node: ir.Node, run: NodeRun, cause: Root | None) -> None:
        """Add what the totals leave out at a node that runs. cause: the root of a size that it needs."""
        if node in self.counter.per_iteration:
            self._root(node, PER_ITERATION, CONSTANT_TRIPS).totals |= dict.fromkeys(MACS)
        if node in self.counter.undecided:
            self._add_other_branch(node)
        if isinstance(run.cost, Uncounted):
            self._add_uncounted(node, run.cost, cause)

    def _add_other_branch(self, node: ir.Node) -> None:
        """An If of which the branch that isn't counted may cost more, as part of its cost isn't known."""
        inside = [inner for body in subgraphs(node) for inner in body.all_nodes()]
        unknown = [inner for inner in inside if inner not in self.runs and inner in self.unrun]
        if unknown:
            first = f"{operator_name(unknown[0])} {self.counter.names[unknown[0]]!r}"
            root = self._root(node, f"its other branch may cost more: the cost of {first} isn't known", "")
            may_have_macs = any(self.unrun[inner].macs for inner in unknown)
            root.totals |= dict.fromkeys(MACS if may_have_macs else OPERATIONS)

    def _add_uncounted(self, node: ir.Node, cost: Uncounted, cause: Root | None) -> None:
        """A node behind another one where only a size is missing; else a root of its own."""
        totals = dict.fromkeys(MACS if cost.macs else OPERATIONS)
        if cause is not None and (cost.missing_shape or node in self.counter.unknown):
            cause.behind[operator_name(node)] += 1
            cause.totals |= totals
            return
        root = self._root(node, cost.reason, BIND if cost.missing_shape else "")
        root.counted = False
        root.totals |= totals
        function = self.counter.functions.get(node.op_identifier())
        if function is not None and any(map(_holds_weight, function.graph.all_nodes())):
            root.totals |= dict.fromkeys(PARAMS)

    def _root(self, node: ir.Node, reason: str, advice: str = BIND) -> Root:
        return self.roots.setdefault(node, Root(node=node, reason=reason, advice=advice))

    def _first_origin(self, values: Iterable[ir.Value]) -> Root | None:
        return next((self.origins[value] for value in values if value in self.origins), None)

    def _is_unsized(self, value: ir.Value) -> bool:
        return self.counter.shape_of(value) is None


def _why_unsized(value: ir.Value, subject: str) -> tuple[str, str]:
    """Why the size of a value isn't known, and what to do about it."""
    if value.dtype == ir.DataType.STRING:
        return f"{subject} holds texts, which have no fixed size", ""
    if map_type(value) is not None:
        return f"{subject} holds maps, which have no fixed size", ""
    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        kind = "a sequence" if isinstance(value.type, ir.SequenceType) else "optional"
        return f"{subject} is {kind}, so its size depends on data", ""
    return (UNSIZED_INPUT if value.producer() is None else UNSIZED), BIND


def _holds_weight(node: ir.Node) -> bool:
    """Whether a node of a function is a Constant that may be a weight."""
    value = node.attributes.get("value") if node.op_type == "Constant" else None
    if value is None or value.is_ref():
        return False
    tensor = value.as_tensor()
    return tensor.dtype.is_floating_point() and tensor.size > 1


def uncounted(found: Sequence[Root], counter: RunCounter) -> list[UncountedOperators]:
    """Roots without a cost, and those with uncounted nodes behind them, by operator and reason."""
    groups: dict[tuple[str, str], list[Root]] = {}
    for root in found:
        if not root.counted or root.behind:
            groups.setdefault((root.op, root.reason), []).append(root)
    return [
        UncountedOperators(
            op=op,
            count=len(group),
            reason=reason,
            nodes=tuple(counter.names[root.node] for root in group),
            behind=dict(sum((root.behind for root in group), Counter[str]())),
        )
        for (op, reason), group in groups.items()
    ]


def gaps(found: Sequence[Root], counter: RunCounter, memory: Memory) -> list[Gap]:
    """What each total leaves out, by operator, reason and totals; and inputs of unknown size."""
    groups: dict[tuple[str, str, str, tuple[str, ...]], list[Root]] = {}
    for root in found:
        groups.setdefault((root.op, root.reason, root.advice, tuple(root.totals)), []).append(root)
    inputs: dict[tuple[str, str], list[str]] = {}
    for value in memory.unknown_values:
        if value.producer() is None:
            inputs.setdefault(_why_unsized(value, "it"), []).append(str(value.name))
    unsized = [
        Gap(totals=ACTIVATIONS, op="input", nodes=names, reason=reason, advice=advice)
        for (reason, advice), names in inputs.items()
    ]
    return [*unsized, *_by_node(groups, counter)]


def assumed_sizes(symbolic: ir.Model, defaults: Dims) -> list[Gap]:
    """Sizes that depend on data, without a bound: totals at the assumed size are no upper limit."""
    return [
        Gap(
            totals=(*MACS, *ACTIVATIONS),
            op="size",
            nodes=[name],
            reason=f"it depends on data and has no known bound: {defaults[name]} is assumed",
            advice=f"set it with --dim {name}=N",
            assumed=True,
        )
        for name, size in run_time_sizes(symbolic).items()
        if size.most is None and name in defaults
    ]


def _by_node(
    groups: Mapping[tuple[str, str, str, tuple[str, ...]], Sequence[Root]], counter: RunCounter
) -> list[Gap]:
    return [
        Gap(
            totals=totals,
            op=op,
            nodes=tuple(counter.names[root.node] for root in group),
            reason=reason,
            advice=advice,
            behind=sum(root.behind.total() for root in group),
        )
        for (op, reason, advice, totals), group in groups.items()
    ]
