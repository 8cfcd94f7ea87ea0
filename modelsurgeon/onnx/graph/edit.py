"""Steps of a graph edit: free names, new initializers, and nodes that replace a node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.names import free_name, nodes_with_functions
from modelsurgeon.onnx.graph.traversal import graphs


def taken_names(model: ir.Model) -> set[str]:
    """Every name of a node or value in use anywhere in the model."""
    nodes = list(nodes_with_functions(model))
    values = [value for node in nodes for value in node.outputs]
    values += [v for graph in graphs(model) for v in (*graph.inputs, *graph.initializers.values())]
    return {value.name for value in values if value.name} | {node.name for node in nodes if node.name}


def add_initializer(graph: ir.Graph, wanted: str, array: Array, taken: set[str]) -> ir.Value:
    """Add an initializer with the array to the graph, under a free name, and return its value."""
    tensor = ir.Tensor(np.ascontiguousarray(array), name=free_name(wanted, taken))
    value = ir.Value(
        name=tensor.name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def replace_node(graph: ir.Graph, node: ir.Node, new: Sequence[ir.Node], name: str, taken: set[str]) -> None:
    """Replace a node with one output by nodes, the last of which computes this output.

    Nodes without a name get `name`, numbered where it is taken. All get the node's metadata; the output keeps
    its name.
    """
    for new_node in new:
        new_node.name = free_name(new_node.name or name, taken)
        new_node.metadata_props.update(node.metadata_props)
        for value in new_node.outputs:
            value.name = free_name(value.name or f"{name}.out", taken)
    last = new[-1].outputs[0]
    last.shape, last.type = node.outputs[0].shape, node.outputs[0].type
    ir.convenience.replace_nodes_and_values(graph, node, [node], list(new), [node.outputs[0]], [last])
