"""Remove the nodes that change no value: no-ops, nodes that undo others, repeated and unused ones.

Every removed node's output is a value that exists before it (`graph.no_ops`, `graph.duplicates`), or is used
by nothing, so all outputs of the model keep their bits. Transposes around elementwise nodes are taken away,
too (`passes.transposes`). A node stays where both its input and its output are names that callers know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.duplicates import duplicates
from modelsurgeon.onnx.graph.edit import replace_node, replace_value, why_not_replaceable
from modelsurgeon.onnx.graph.no_ops import NO_OPERATORS, Shape, ValueTypes, unchanged_input, undone_value
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.transposes import TransposedRegions
from modelsurgeon.surgery.edits import Edit

ACTION = "remove"
NO_OP, UNDONE, REPEATED, UNUSED = "no-op", "undone", "repeated", "unused"


def clean(context: PassContext) -> list[Edit]:
    """Remove no-ops, nodes that undo others, repeated and unused nodes; an edit for each."""
    context.names, context.measured  # noqa: B018 - both are cached before the first edit
    all_nodes, unread = list(context.model.graph.all_nodes()), _unread_weights(context.model)
    RemoveUnusedNodesPass()(context.model)
    work = _Cleaning.of(context)
    before = -1
    while before < (before := len(work.removed)):
        for graph in work.graphs:
            work.sweep(graph)
    RemoveUnusedNodesPass()(context.model)
    weights = [Edit(layer=name, action=ACTION, details={"op": "weight", "why": UNUSED}) for name in unread]
    return [*work.edits(all_nodes), *weights]


@dataclass(kw_only=True, eq=False)
class _Cleaning:
    """A clean in progress. known_shapes: of values. constants: values that depend on constants alone.

    removed: nodes with the kind of their removal. kept: nodes with the reason."""

    context: PassContext
    types: ValueTypes
    known_shapes: dict[ir.Value, Shape]
    constants: set[ir.Value]
    removed: dict[ir.Node, str] = field(default_factory=dict)
    kept: dict[ir.Node, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: PassContext) -> _Cleaning:
        """Read the shapes of all values; sizes of the user are left out, they hold for one call."""
        model = context.model
        given = context.given or context.dims
        measured = shapes.bound(model) if given else context.measured
        values = [*measured.graph.inputs, *(v for node in measured.graph.all_nodes() for v in node.outputs)]
        counts = Counter(value.name for value in values)
        # One name in two branches may stand for values of two shapes.
        single = {value.name: value for value in values if counts[value.name] == 1}
        all_nodes = list(model.graph.all_nodes())
        named = [*model.graph.inputs, *(value for node in all_nodes for value in node.outputs)]
        found = {value: single[value.name] for value in named if value.name in single}
        known: dict[ir.Value, Shape] = {
            v: other.shape for v, other in found.items() if other.shape is not None
        }
        dtypes = {value: other.dtype for value, other in found.items()}

        def shape(value: ir.Value) -> Shape | None:
            return value.shape if value.is_initializer() else known.get(value)

        def dtype(value: ir.Value) -> ir.DataType | None:
            return value.dtype if value.is_initializer() else dtypes.get(value)

        return cls(
            context=context,
            types=ValueTypes.of(model, shape, dtype),
            known_shapes=known,
            constants=constant_values(model),
        )

    @property
    def graphs(self) -> list[ir.Graph]:
        """The main graph and all subgraphs; functions are left as they are."""
        return list(self.context.model.graphs())

    def sweep(self, graph: ir.Graph) -> None:
        """Remove what changes nothing in one graph, in file order."""
        for node in list(graph):
            if node.op_type in NO_OPERATORS and not node.domain:
                self._remove_no_op(node)
        regions = TransposedRegions(context=self.context, types=self.types, shapes=self.known_shapes)
        for node in regions.collapse(graph, self._may_remove):
            self.removed[node] = UNDONE
        for node, first in list(duplicates(graph, self.context.model.opset_imports)):
            self._merge(node, first)

    def _remove_no_op(self, node: ir.Node) -> None:
        value, kind = unchanged_input(node, self.types), NO_OP
        if value is None:
            value, kind = undone_value(node, self.types), UNDONE
        if value is None or not self._may_remove(node):
            return
        if (reason := why_not_replaceable(node.outputs[0], value)) is not None:
            self.kept[node] = reason
            return
        replace_value(node.outputs[0], value)
        self._remove(node, kind)

    def _may_remove(self, node: ir.Node) -> bool:
        """Whether the user lets the node be removed."""
        reason = self.context.skip_reason(self._name(node))
        if reason is not None:
            self.kept[node] = reason
        return reason is None

    def _merge(self, node: ir.Node, first: ir.Node) -> None:
        """Use the outputs of an equal node before it in place of a node's own."""
        constant = self.constants.issuperset(node.outputs)  # weights of two layers stay two weights
        if constant or first.graph is None or not self._may_remove(node):
            return
        pairs = [
            (mine, theirs)
            for mine, theirs in zip(node.outputs, first.outputs, strict=True)
            if mine.uses() or mine.is_graph_output()
        ]
        if all(theirs.name and why_not_replaceable(mine, theirs) is None for mine, theirs in pairs):
            for mine, theirs in pairs:
                replace_value(mine, theirs)
            self._remove(node, REPEATED)
        elif len(node.outputs) == 1 and node.op_type != "Identity":
            self._name_output(node, first.outputs[0])

    def _name_output(self, node: ir.Node, value: ir.Value) -> None:
        """Replace a node whose output is one of the graph by an Identity of an equal value."""
        if isinstance(node.graph, ir.Graph):
            named = ir.node("Identity", [value])
            replace_node(node.graph, node, [named], self._name(node), self.context.taken)
            self.removed[node] = REPEATED

    def _remove(self, node: ir.Node, kind: str) -> None:
        if node.graph is not None:
            node.graph.remove(node, safe=True)
        self.removed[node] = kind
        self.kept.pop(node, None)

    def edits(self, all_nodes: Sequence[ir.Node]) -> Iterator[Edit]:
        """An edit for every node that is gone, and for those that had to stay, in file order."""
        left = set(self.context.model.graph.all_nodes())
        for node in all_nodes:
            name, why = self._name(node), self.removed.get(node, UNUSED)
            if node not in left and node.op_type != "Constant":
                yield Edit(layer=name, action=ACTION, details={"op": node.op_type, "why": why})
            elif node in self.kept and node in left:
                yield Edit(layer=name, action=ACTION, skipped=self.kept[node])

    def _name(self, node: ir.Node) -> str:
        return self.context.names.get(node, node.name or node.op_type)


def _unread_weights(model: ir.Model) -> list[str]:
    """Names of the initializers that nothing reads, and no caller can give."""
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    free = [v for v in values if not (v.uses() or v.is_graph_output() or v.is_graph_input())]
    return sorted(str(value.name) for value in free)
