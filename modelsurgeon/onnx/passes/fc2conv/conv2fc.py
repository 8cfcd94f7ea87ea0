"""Convolutions that see one position as fully connected layers: `fc2conv` backwards.

A convolution whose kernel covers its whole map, unpadded, gives one position: it is the matrix (K, C * H * W)
that its weight is when reshaped. Non-linearities between two of them work on vectors just as well, and a
Flatten behind them is done already. Whatever else uses the map gets it from a Reshape.

On request, convolutions on larger maps become matrix products, too: see `im2col`.
"""

from __future__ import annotations

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.im2col import on_columns
from modelsurgeon.onnx.passes.op_predicates import UNARY, dims, is_flatten, reshaped
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit

ACTION = "to fully connected"
Flat = dict[ir.Value, ir.Value]


def conv2fc(subject: PassContext, *, im2col: bool = False) -> list[Edit]:
    """Turn convolutions of one position into fully connected layers.

    im2col: and all others into products of a matrix with the columns under their kernels.
    """
    flat: Flat = {}
    edits = []
    for node in list(subject.graph):
        x = node.inputs[0] if node.inputs else None
        if not node.domain and node.op_type in ("Conv", "ConvTranspose"):
            edits.append(_layer(subject, node, flat, im2col=im2col))
        elif x in flat and is_flatten(subject, node) and not node.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(node.outputs[0], flat[x])
        elif x in flat and not node.domain and node.op_type in UNARY:
            made = ir.node(node.op_type, [flat[x], *node.inputs[1:]], node.attributes)
            _put(subject, node, [made], flat)
    if any(edit.skipped is None for edit in edits):
        _fix_inputs(subject)
    return edits


def _layer(subject: PassContext, node: ir.Node, flat: Flat, *, im2col: bool) -> Edit:
    name = subject.names[node]
    try:
        if reason := subject.left_out(name):
            raise UnsupportedLayer(reason)
        layer = operators.read(node, subject.size(node.inputs[0]))
        if layer.transposed:
            raise UnsupportedLayer("it is transposed")
        if im2col and not _sees_one(subject, node, layer):
            return on_columns(subject, node, name, layer)
        _check_sees_one(subject, node, layer)
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=ACTION, skipped=str(reason))
    x, made = flat.get(node.inputs[0]), []  # type: ignore[arg-type]
    if x is None:
        made.append(ir.node("Flatten", [node.inputs[0]], {"axis": 1}, name=f"{name}.flat"))
        x = made[0].outputs[0]
    _put(subject, node, [*made, *_dense(subject, name, layer, x)], flat)
    return Edit(layer=name, action=ACTION, details={"kernel": list(layer.kernel)})


def _sees_one(subject: PassContext, node: ir.Node, layer: Layer) -> bool:
    whole = layer.kernel == tuple((dims(subject, node.inputs[0]) or [])[2:])
    return layer.groups == 1 and whole and not any(map(any, layer.padding))


def _check_sees_one(subject: PassContext, node: ir.Node, layer: Layer) -> None:
    """Raise UnsupportedLayer where a convolution doesn't cover its whole map."""
    spatial = (dims(subject, node.inputs[0]) or [None] * layer.weight.ndim)[2:]
    if None in spatial:
        raise UnsupportedLayer("the size of its map is open: fix the inputs with --shape")
    if layer.groups > 1:
        raise UnsupportedLayer(f"it has {layer.groups} groups")
    if not _sees_one(subject, node, layer):
        raise UnsupportedLayer(f"its kernel {layer.kernel} isn't its whole map of {tuple(spatial)}")


def _dense(subject: PassContext, name: str, layer: Layer, x: ir.Value) -> list[ir.Node]:
    weight = layer.weight.reshape(layer.out_channels, -1)
    if layer.bias is None:  # Gemm needs one before opset 11
        return [ir.node("MatMul", [x, subject.store(f"{name}.weight", weight.T)], name=name)]
    inputs = [x, subject.store(f"{name}.weight", weight), subject.store(f"{name}.bias", layer.bias)]
    return [ir.node("Gemm", inputs, {"transB": 1}, name=name)]


def _put(subject: PassContext, node: ir.Node, made: list[ir.Node], flat: Flat) -> None:
    """What gives vectors, and a Reshape to the map, in the place of a node that gave the map."""
    vector, sizes = made[-1].outputs[0], dims(subject, node.outputs[0]) or []
    back = reshaped(subject, vector, [0, *(n or -1 for n in sizes[1:])])
    subject.replace(node, [*made, back])
    flat[back.outputs[0]] = vector


def _fix_inputs(subject: PassContext) -> None:
    """The sizes that the user gave are the model's own now: its matrices fit no others."""
    if subject.given or subject.dims:
        for value in data_inputs(subject.model):
            value.shape = subject.inferred(value).shape
        for node in subject.graph:
            for value in node.outputs:
                value.shape = None
