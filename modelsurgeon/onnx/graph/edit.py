"""Steps of a graph edit: free names, new initializers, nodes and values that replace others."""

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


def why_not_replaceable(value: ir.Value, other: ir.Value) -> str | None:
    """The reason why another value can't take the place of a value; None where it can.

    An output keeps its name, which the other value then takes over.
    """
    if not value.is_graph_output():
        return None
    if other.is_graph_input() or other.is_initializer():
        return "its output is one of the graph, and its input an input or a weight"
    if other.is_graph_output():
        return "its output and its input are both outputs of the graph"
    producers = (value.producer(), other.producer())
    if producers[0] is None or producers[1] is None or producers[0].graph is not producers[1].graph:
        return "its output is one of the graph, and its input comes from around it"
    return None


def replace_value(value: ir.Value, other: ir.Value) -> None:
    """Use another value in place of a value; where it is an output, its name and declaration pass over."""
    declared = value.is_graph_output()
    ir.convenience.replace_all_uses_with(value, other, replace_graph_outputs=True)
    if not declared:
        return
    name, value.name = value.name, None
    other.name, other.doc_string = name, value.doc_string
    other.metadata_props.update(value.metadata_props)
    other.type, other.shape = value.type or other.type, value.shape
