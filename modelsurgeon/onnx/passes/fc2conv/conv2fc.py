"""Convolutions with one output position as fully connected layers: the inverse of `fc2conv`.

A convolution whose kernel covers its whole map, unpadded, has one output position: it is a product with its
weight, reshaped to (K, C * H * W). Non-linearities between two of them work on vectors as well, and a Flatten
after them is dropped. All other users of the map get it from a Reshape.

On request, convolutions with more positions become matrix products, too: see `im2col`.
"""

from __future__ import annotations

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.im2col import to_matrix_product
from modelsurgeon.onnx.passes.op_predicates import UNARY, dims, is_flatten, reshape_node
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit

ACTION = "to fully connected"
FlatValues = dict[ir.Value, ir.Value]


def conv2fc(context: PassContext, *, im2col: bool = False) -> list[Edit]:
    """Turn convolutions with one output position into fully connected layers.

    im2col: also turn all others into matrix products with columns of the patches under their kernels.
    """
    flat: FlatValues = {}
    edits = []
    for node in list(context.graph):
        x = node.inputs[0] if node.inputs else None
        if not node.domain and node.op_type in ("Conv", "ConvTranspose"):
            edits.append(_convert_layer(context, node, flat, im2col=im2col))
        elif x in flat and is_flatten(context, node) and not node.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(node.outputs[0], flat[x])
        elif x in flat and not node.domain and node.op_type in UNARY:
            unary = ir.node(node.op_type, [flat[x], *node.inputs[1:]], node.attributes)
            _replace_and_reshape(context, node, [unary], flat)
    if any(edit.skipped is None for edit in edits):
        _fix_inputs(context)
    return edits


def _convert_layer(context: PassContext, node: ir.Node, flat: FlatValues, *, im2col: bool) -> Edit:
    name = context.names[node]
    try:
        if reason := context.skip_reason(name):
            raise UnsupportedLayer(reason)
        layer = operators.read(node, context.size(node.inputs[0]))
        if layer.transposed:
            raise UnsupportedLayer("it is transposed")
        if im2col and not _covers_map(context, node, layer):
            return to_matrix_product(context, node, name, layer)
        _check_covers_map(context, node, layer)
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=ACTION, skipped=str(reason))
    x, nodes = flat.get(node.inputs[0]), []  # type: ignore[arg-type]
    if x is None:
        nodes.append(ir.node("Flatten", [node.inputs[0]], {"axis": 1}, name=f"{name}.flat"))
        x = nodes[0].outputs[0]
    _replace_and_reshape(context, node, [*nodes, *_dense_nodes(context, name, layer, x)], flat)
    return Edit(layer=name, action=ACTION, details={"kernel": list(layer.kernel)})


def _covers_map(context: PassContext, node: ir.Node, layer: Layer) -> bool:
    covers = layer.kernel == tuple((dims(context, node.inputs[0]) or [])[2:])
    return layer.groups == 1 and covers and not any(map(any, layer.padding))


def _check_covers_map(context: PassContext, node: ir.Node, layer: Layer) -> None:
    """Raise UnsupportedLayer where a convolution doesn't cover its whole map."""
    spatial = (dims(context, node.inputs[0]) or [None] * layer.weight.ndim)[2:]
    if None in spatial:
        raise UnsupportedLayer("the size of its map is open: fix the inputs with --shape")
    if layer.groups > 1:
        raise UnsupportedLayer(f"it has {layer.groups} groups")
    if not _covers_map(context, node, layer):
        raise UnsupportedLayer(f"its kernel {layer.kernel} isn't its whole map of {tuple(spatial)}")


def _dense_nodes(context: PassContext, name: str, layer: Layer, x: ir.Value) -> list[ir.Node]:
    weight = layer.weight.reshape(layer.out_channels, -1)
    if layer.bias is None:  # Gemm needs one before opset 11
        return [ir.node("MatMul", [x, context.store(f"{name}.weight", weight.T)], name=name)]
    inputs = [x, context.store(f"{name}.weight", weight), context.store(f"{name}.bias", layer.bias)]
    return [ir.node("Gemm", inputs, {"transB": 1}, name=name)]


def _replace_and_reshape(context: PassContext, node: ir.Node, nodes: list[ir.Node], flat: FlatValues) -> None:
    """Replace a node that computes a map by nodes that compute a vector, and a Reshape of it to the map."""
    vector, sizes = nodes[-1].outputs[0], dims(context, node.outputs[0]) or []
    back = reshape_node(context, vector, [0, *(n or -1 for n in sizes[1:])])
    context.replace(node, [*nodes, back])
    flat[back.outputs[0]] = vector


def _fix_inputs(context: PassContext) -> None:
    """Write the sizes that the user fixed into the inputs: the new matrices fit no others."""
    if context.given or context.dims:
        for value in data_inputs(context.model):
            value.shape = context.inferred(value).shape
        for node in context.graph:
            for value in node.outputs:
                value.shape = None
