"""What flows where: the needs of a node with its subgraphs, and which values are constant."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.traversal import bodies, nodes

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
GRAPH_ATTRIBUTES = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node carries as attributes: branches and loop bodies."""
    for attr in node.attributes.data.values():  # its own values() looks each one up again
        if attr.type not in GRAPH_ATTRIBUTES or attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        else:
            yield from attr.as_graphs()


def inputs_and_captures(node: ir.Node) -> Iterator[ir.Value]:
    """Everything that must be there for a node to run: its inputs, and what its subgraphs capture."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        own = {*graph.inputs, *graph.initializers.values()}
        for inside in graph:
            yield from (value for value in inputs_and_captures(inside) if value not in own)
            own.update(inside.outputs)
        yield from (value for value in graph.outputs if value not in own)


def constant_values(model: ir.Model) -> set[ir.Value]:
    """Values that follow from constants alone: a runtime folds them when it loads a model.

    Initializers count even where a caller might override them (in IR version 3 all are listed as inputs).
    """
    fixed = set(model.graph.initializers.values())
    for graph in bodies(model):
        fixed.update(graph.initializers.values())
    for node in nodes(model):
        if not _is_random(node) and fixed.issuperset(inputs_and_captures(node)):
            fixed.update(node.outputs)
    return fixed


def _is_random(node: ir.Node) -> bool:
    inside = (inner for graph in subgraphs(node) for inner in graph)
    return node.op_type in RANDOM or any(_is_random(inner) for inner in inside)
