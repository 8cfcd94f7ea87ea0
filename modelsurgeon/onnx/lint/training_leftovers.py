"""What belongs to training and was left in: dropout, statistics of the batch, batch norm by itself."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.names import LINEAR
from modelsurgeon.onnx.lint.net import DENSE, Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import windows
from modelsurgeon.report.formatting import percent, show

STATISTICS_INPUTS = range(1, 5)  # inputs of a BatchNormalization: scale, shift, mean, variance


@rule(
    "dropout-active",
    "error",
    summary="dropout is on: the answers are random",
    advice="Export the net in eval mode, or set training_mode of {layer} to false.",
)
def dropout_active(net: Net) -> Iterator[Hit]:
    """A Dropout that is told to train: training_mode is true, or before opset 7 is_test isn't 1.

    Every run then zeroes other values, and no two answers are alike.
    """
    for node, row in net.nodes("Dropout"):
        ratio = _ratio(node)
        if ratio != 0 and _drops(node, _opset(net)):
            yield Hit(
                layer=row.name,
                message="is in training mode and zeroes values at random"
                + (f", {percent(ratio)} of them" if ratio else ""),
                evidence={} if ratio is None else {"ratio": ratio},
            )


@rule(
    "dropout-left",
    "note",
    summary="dropout that does nothing was left in",
    advice="Leave it out, as some runtimes copy the map for it: "
    "`modelsurgeon extract MODEL -o OUT --outputs {outputs}`",
)
def dropout_left(net: Net) -> Iterator[Hit]:
    """A Dropout in inference mode: it hands on what it gets."""
    for node, row in net.nodes("Dropout"):
        if _ratio(node) == 0 or not _drops(node, _opset(net)):
            yield Hit(layer=row.name, message="hands on what it gets")


@rule(
    "batchnorm-training",
    "error",
    summary="batch norm takes its statistics from the batch",
    advice="Export the net in eval mode; where its running statistics are stale: "
    "`modelsurgeon bn recalibrate MODEL -o OUT --data CALIBRATION`",
)
def batchnorm_training(net: Net) -> Iterator[Hit]:
    """A BatchNormalization in training mode: the answer to a sample depends on the others in its batch.

    training_mode is 1, or outputs are used that only training has, or before opset 7 is_test isn't 1.
    """
    for node, row in net.nodes("BatchNormalization"):
        if _trains(net, node):
            yield Hit(layer=row.name, message="normalises by the mean and variance of the batch it is given")


@rule(
    "bn-not-folded",
    "note",
    summary="batch norm stands beside a layer that could absorb it",
    advice="`modelsurgeon bn fold MODEL -o OUT`",
)
def bn_not_folded(net: Net) -> Iterator[Hit]:
    """A batch norm with constant statistics right behind, or before, a linear layer with a weight of its own.

    Folding is exact: it scales the weight's outputs (or inputs, where no padding comes between) and moves the
    bias. onnxruntime does so when it loads a model; other runtimes, and whoever quantises the weights, don't.
    """
    for node, row in net.nodes("BatchNormalization"):
        where = _foldable(net, node) if _is_fixed(net, node) else None
        if where is not None:
            yield Hit(
                layer=row.name,
                message=f"{where}: {show(row.flops, 'count')} FLOPs less",
                badness=row.flops or 0,
                evidence={"flops": row.flops, "params": row.params},
            )


def _is_fixed(net: Net, node: ir.Node) -> bool:
    """Whether a batch norm is the same for every input, and stands where a verb can reach it."""
    if node.graph is not net.model.graph or _trains(net, node):
        return False
    return all(_is_constant(net, node, place) for place in STATISTICS_INPUTS)


def _foldable(net: Net, node: ir.Node) -> str | None:
    """Into which neighbour a batch norm can be folded exactly, in words."""
    data, result = _past_bias(net, node.inputs[0]), node.outputs[0]
    before = data.producer() if data is not None and _only_use(net, data) else None
    if before is not None and _absorbs(net, before, node) and _channels_second(net, before):
        return f"folds into {net.row_of[before].name!r} before it, exactly"
    after = next((use.node for use in result.uses() if use.idx == 0 and _only_use(net, result)), None)
    if after is not None and _absorbs(net, after, node) and _unpadded(net, after):
        return f"folds into {net.row_of[after].name!r} behind it, exactly"
    return None


def _past_bias(net: Net, value: ir.Value | None) -> ir.Value | None:
    """What a constant is added to, where that sum is used once; else the value itself."""
    maker = value.producer() if value is not None and _only_use(net, value) else None
    if maker is None or maker.op_type != "Add" or net.fixed.isdisjoint(maker.inputs):
        return value
    return next((operand for operand in maker.inputs if operand not in net.fixed), None)


def _absorbs(net: Net, layer: ir.Node, norm: ir.Node) -> bool:
    """Whether a neighbour is a linear layer with a constant, floating weight that nothing else uses."""
    if layer.op_type not in LINEAR or layer.domain or layer.graph is not norm.graph or len(layer.inputs) < 2:
        return False
    weight = layer.inputs[1]
    own = weight is not None and len(list(weight.uses())) == 1
    bias = [value for value in layer.inputs[2:] if value is not None]
    return own and _is_constant(net, layer, 1) and net.fixed.issuperset(bias)


def _is_constant(net: Net, node: ir.Node, place: int) -> bool:
    """Whether an input is a constant, and no dequantised one."""
    value = node.inputs[place] if place < len(node.inputs) else None
    maker = value.producer() if value is not None else None
    return value in net.fixed and (maker is None or maker.op_type != "DequantizeLinear")


def _only_use(net: Net, value: ir.Value) -> bool:
    return len(list(value.uses())) == 1 and not any(value in graph.outputs for graph in net.graphs)


def _channels_second(net: Net, node: ir.Node) -> bool:
    """Whether the layer's output channels lie along the axis that batch norm works on."""
    shape = net.row_of[node].output
    return node.op_type != "MatMul" or (shape is not None and len(shape) == 2)


def _unpadded(net: Net, node: ir.Node) -> bool:
    """Whether the layer behind sees no zeros beside the shifted map, and channels along its second axis."""
    if node.op_type == "Conv":
        axes = windows(net, node)
        return bool(axes) and not any(axis.begin or axis.end for axis in axes)
    shape = net.row_of[node].input_shapes[0]
    matrix = shape is not None and len(shape) == 2 and node.op_type in DENSE
    return matrix and not node.attributes.get_int("transA", 0)


def _opset(net: Net) -> int:
    return net.model.opset_imports.get("", 1)


def _drops(node: ir.Node, opset: int) -> bool:
    if opset < 7:
        return not node.attributes.get_int("is_test", 0)
    return len(node.inputs) > 2 and bool(scalar_constant(node.inputs[2]))


def _ratio(node: ir.Node) -> float | None:
    """The share that is dropped; None where it isn't constant."""
    if "ratio" in node.attributes:
        return node.attributes.get_float("ratio", 0.5)
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return 0.5
    ratio = scalar_constant(node.inputs[1])
    return None if ratio is None else float(ratio)


def _trains(net: Net, node: ir.Node) -> bool:
    from modelsurgeon.onnx.passes.batchnorm.nodes import is_training  # loads scipy, which info has no need of

    return is_training(net.model, node)
