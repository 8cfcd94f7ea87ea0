"""Small steps that every edit of a graph is made of: free names, new weights, nodes in a node's place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.names import nodes_of
from modelsurgeon.onnx.graph.traversal import graphs


def taken_names(model: ir.Model) -> set[str]:
    """Every name of a node or value in use anywhere in the model."""
    nodes = list(nodes_of(model))
    values = [value for node in nodes for value in node.outputs]
    values += [v for graph in graphs(model) for v in (*graph.inputs, *graph.initializers.values())]
    return {value.name for value in values if value.name} | {node.name for node in nodes if node.name}


def free(wish: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; taken from now on."""
    name, count = wish, 1
    while name in taken:
        count += 1
        name = f"{wish}_{count}"
    taken.add(name)
    return name


def store(graph: ir.Graph, wish: str, array: Array, taken: set[str]) -> ir.Value:
    """A new initializer of the graph that holds the array, under a free name."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=free(wish, taken))
    value = ir.Value(
        name=tensor.name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def replace(graph: ir.Graph, node: ir.Node, new: Sequence[ir.Node], name: str, taken: set[str]) -> None:
    """Put nodes, the last of which gives the node's one output, in its place.

    They are called `name` and what follows from it, and keep the node's metadata; the output keeps its name.
    """
    for made in new:
        made.name = free(made.name or name, taken)
        made.metadata_props.update(node.metadata_props)
        for value in made.outputs:
            value.name = free(value.name or f"{name}.out", taken)
    last = new[-1].outputs[0]
    last.shape, last.type = node.outputs[0].shape, node.outputs[0].type
    ir.convenience.replace_nodes_and_values(graph, node, [node], list(new), [node.outputs[0]], [last])
