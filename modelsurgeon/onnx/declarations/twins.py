"""Values and nodes of two versions of a model that bear the same names, graph by graph."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.dataflow import subgraphs

Twins = dict[ir.Value, ir.Value]


def twins(one: ir.Graph, other: ir.Graph) -> Twins:
    """For the values of a graph, those of the same names in another version of it.

    Graphs inside nodes are paired where their nodes compute values of the same names; a name counts in its
    own graph only.
    """
    found: Twins = {}
    _pair(one, other, found)
    return found


def node_twin(node: ir.Node, paired: Twins) -> ir.Node | None:
    """The node that computes the node's outputs in the other version; None where there is none."""
    for value in node.outputs:
        if (twin := paired.get(value)) is not None:
            return twin.producer()
    return None


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of a graph and of the graphs inside it; those inside a node come before the node itself."""
    for node in graph:
        for inner in subgraphs(node):
            yield from all_nodes(inner)
        yield node


def _pair(one: ir.Graph, other: ir.Graph, found: Twins) -> None:
    named = {value.name: value for value in _values(other) if value.name}
    for value in _values(one):
        if value.name and (twin := named.get(value.name)) is not None:
            found[value] = twin
    for node in one:
        inner = list(subgraphs(node))
        twin_node = node_twin(node, found) if inner else None
        if twin_node is not None:
            for graph, twin_graph in zip(inner, subgraphs(twin_node), strict=False):
                _pair(graph, twin_graph, found)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.data.values()
    for node in graph:
        yield from node.outputs
