"""Dataflow of a graph: the values that a node with its subgraphs reads, and the values that are constant."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.randomness import draws
from modelsurgeon.onnx.graph.traversal import bodies, nodes

GRAPH_ATTRIBUTES = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in a node's attributes: branches and loop bodies."""
    for attr in node.attributes.data.values():  # its own values() looks each one up again
        if attr.type not in GRAPH_ATTRIBUTES or attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        else:
            yield from attr.as_graphs()


def inputs_and_captures(node: ir.Node) -> Iterator[ir.Value]:
    """All values that a node reads: its inputs, and the values that its subgraphs capture from outside."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        defined = {*graph.inputs, *graph.initializers.values()}
        for inside in graph:
            yield from (value for value in inputs_and_captures(inside) if value not in defined)
            defined.update(inside.outputs)
        yield from (value for value in graph.outputs if value not in defined)


def constant_values(model: ir.Model) -> set[ir.Value]:
    """Values that depend on constants alone: a runtime folds them when it loads a model.

    Initializers count even where a caller may override them (in IR version 3 all are listed as inputs).
    """
    fixed, opset = set(model.graph.initializers.values()), model.opset_imports.get("", 1)
    for graph in bodies(model):
        fixed.update(graph.initializers.values())
    for node in nodes(model):
        if fixed.issuperset(inputs_and_captures(node)) and not is_random(node, opset):
            fixed.update(node.outputs)
    return fixed


def is_random(node: ir.Node, opset: int) -> bool:
    """Whether a node, or one in its subgraphs, may give other values at every run."""
    return draws(node, opset) or any(is_random(inner, opset) for graph in subgraphs(node) for inner in graph)
