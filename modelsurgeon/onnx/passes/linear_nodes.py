"""Linear nodes (Conv, ConvTranspose, Gemm, MatMul): their layers read and written, their neighbors found."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import ASSUMED_POSITIONS, weight_input_index
from modelsurgeon.onnx.layers.sites import check_uses, why_not_constant
from modelsurgeon.onnx.passes.context import PassContext


def is_linear(node: ir.Node) -> bool:
    """Whether the node applies a linear layer."""
    return node.op_type in LINEAR_OPERATORS and not node.domain


def check_single_use(value: ir.Value) -> None:
    """Raise UnsupportedLayer where a value has more uses than one, or is a graph output."""
    if value.is_graph_output():
        raise UnsupportedLayer("a value between it and the layer before it is a graph output")
    if len(value.uses()) > 1:
        raise UnsupportedLayer("a value between it and the layer before it has other uses")


def single_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value; None where nothing uses it.

    Raises UnsupportedLayer for other uses, for one in another graph, and for a value that is a graph output
    too.
    """
    uses = value.uses()
    if uses and value.is_graph_output():
        raise UnsupportedLayer("a value between it and the layer after it is a graph output")
    if len(uses) > 1 or any(node.graph is not value.graph for node, _ in uses):
        raise UnsupportedLayer("a value between it and the layer after it has other uses")
    return next((node for node, _ in uses), None)


def read(context: PassContext, node: ir.Node, *, geometry: bool) -> Layer:
    """The layer of a node, for weights that are to change. Raises UnsupportedLayer where they can't.

    geometry: whether the padding is needed, which may depend on a size that the model leaves open.
    """
    place = weight_input_index(node)
    weight = stored_source(node.inputs[place])
    if weight is None:
        raise UnsupportedLayer(f"of the {node.op_type} next to it: {why_not_constant(node)}")
    try:
        check_uses(weight, {node})
        size = context.size(node.inputs[1 - place])
        layer = operators.read(node, size if geometry or size else (ASSUMED_POSITIONS,) * MAX_AXES)
    except UnsupportedLayer as reason:
        raise UnsupportedLayer(f"of the {node.op_type} next to it: {reason}") from reason
    return layer


MAX_AXES = 8  # more than any kernel has


def check_channels(context: PassContext, node: ir.Node, axis: int) -> None:
    """Raise UnsupportedLayer unless that axis of a linear node's output is that of its channels.

    A MatMul with its weight on the right works on the last axis, with its weight on the left on the last but
    one.
    """
    own = 1
    if node.op_type == "MatMul":
        ndim = context.ndim(node.outputs[0])
        if ndim is None:
            raise UnsupportedLayer("the MatMul next to it works on a tensor whose number of axes isn't known")
        own = ndim - (2 if weight_input_index(node) == 0 else 1)
    if axis != own:
        raise UnsupportedLayer(
            f"the {node.op_type} next to it works on another axis than that of the channels"
        )


def write(context: PassContext, node: ir.Node, layer: Layer) -> Array | None:
    """Write the weight and bias of `layer` into a node, as new initializers.

    MatMul has no input for a bias: it is returned instead, in the shape for an Add after the node.
    """
    name = context.names.get(node, node.op_type)
    weight = context.store(f"{name}.weight", operators.weight_as_stored(node, layer))
    node.replace_input_with(weight_input_index(node), weight)
    if node.op_type == "Gemm":
        for attribute in ("alpha", "beta", "transB"):
            node.attributes.pop(attribute, None)
    if layer.bias is None:
        return None
    if node.op_type == "MatMul":
        return layer.bias if weight_input_index(node) == 1 else layer.bias[:, None]
    node.resize_inputs(3)
    node.replace_input_with(2, context.store(f"{name}.bias", layer.bias))
    return None


def add_bias_after(context: PassContext, node: ir.Node, bias: Array | None) -> None:
    """Insert an Add of a bias after a node; the sum takes over the name of the node's output."""
    if bias is None:
        return
    name = context.names.get(node, node.op_type)
    add = ir.node("Add", [node.outputs[0], context.store(f"{name}.bias", bias)])
    old = node.outputs[0]
    new = add.outputs[0]
    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    add.replace_input_with(0, old)
    add.name = context.free(f"{name}.add")
    old.name, new.name = context.free(f"{name}.product"), old.name
    node.append(add)


def remove_node(context: PassContext, node: ir.Node) -> None:
    """Remove a node with one input; its input takes over the uses and the name of its output."""
    x = node.inputs[0]
    assert x is not None, "checked when the node was read"  # noqa: S101
    remove_run(context, x, [node])


def remove_run(context: PassContext, x: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Remove nodes that follow each other; their input takes over the uses and the name of their output."""
    out = nodes[-1].outputs[0]
    name = out.name
    ir.convenience.replace_all_uses_with(out, x, replace_graph_outputs=True)
    for node in reversed(nodes):
        context.graph.remove(node, safe=True)
    if x.producer() is not None:
        x.name = name
