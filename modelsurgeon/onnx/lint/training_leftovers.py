"""Rules about what training left in a net: dropout, batch norm in training mode, unfolded batch norm."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.lint.net import DENSE_OPERATORS, Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import windows
from modelsurgeon.report.formatting import percent, show

STATISTICS_INPUTS = range(1, 5)  # inputs of a BatchNormalization: scale, shift, mean, variance


@rule(
    "dropout-active",
    "error",
    summary="dropout is active: the outputs are random",
    advice="Export the net in eval mode, or set training_mode of {layer} to false.",
)
def dropout_active(net: Net) -> Iterator[Hit]:
    """A Dropout in training mode: training_mode is true, or before opset 7 is_test isn't 1.

    Every run then zeroes other values, so that outputs differ from run to run.
    """
    for node, row in net.nodes("Dropout"):
        ratio = _ratio(node)
        if ratio != 0 and _is_dropping(node, _opset(net)):
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
    advice="Remove it, as some runtimes copy the map for it: "
    "`modelsurgeon extract MODEL -o OUT --outputs {outputs}`",
)
def dropout_left(net: Net) -> Iterator[Hit]:
    """A Dropout in inference mode: its output is its input."""
    for node, row in net.nodes("Dropout"):
        if _ratio(node) == 0 or not _is_dropping(node, _opset(net)):
            yield Hit(layer=row.name, message="its output is its input")


@rule(
    "batchnorm-training",
    "error",
    summary="batch norm takes its statistics from the batch",
    advice="Export the net in eval mode; where its running statistics are stale: "
    "`modelsurgeon bn recalibrate MODEL -o OUT --data CALIBRATION`",
)
def batchnorm_training(net: Net) -> Iterator[Hit]:
    """A BatchNormalization in training mode: the output for a sample depends on the others in its batch.

    training_mode is 1, or outputs are used that exist in training only, or before opset 7 is_test isn't 1.
    """
    for node, row in net.nodes("BatchNormalization"):
        if _is_training(net, node):
            yield Hit(layer=row.name, message="normalizes by the mean and variance of each batch")


@rule(
    "bn-not-folded",
    "note",
    summary="batch norm next to a linear layer that could absorb it",
    advice="`modelsurgeon bn fold MODEL -o OUT`",
)
def bn_not_folded(net: Net) -> Iterator[Hit]:
    """A batch norm with constant statistics directly after or before a linear layer with a weight of its own.

    Folding is exact: it scales the weight's outputs (or inputs, where the layer has no padding) and shifts
    the bias. onnxruntime does so when it loads a model; other runtimes and tools that quantize weights don't.
    """
    for node, row in net.nodes("BatchNormalization"):
        fold_text = _fold_text(net, node) if _has_constant_statistics(net, node) else None
        if fold_text is not None:
            yield Hit(
                layer=row.name,
                message=f"{fold_text}: {show(row.flops, 'count')} FLOPs less",
                badness=row.flops or 0,
                evidence={"flops": row.flops, "params": row.params},
            )


def _has_constant_statistics(net: Net, node: ir.Node) -> bool:
    """Whether a batch norm has constant inputs, isn't in training mode and is in the main graph."""
    if node.graph is not net.model.graph or _is_training(net, node):
        return False
    return all(_is_constant(net, node, index) for index in STATISTICS_INPUTS)


def _fold_text(net: Net, node: ir.Node) -> str | None:
    """The neighbour that a batch norm can be folded into exactly, as text; None where there is none."""
    data, result = _before_bias(net, node.inputs[0]), node.outputs[0]
    preceding = data.producer() if data is not None and _only_use(net, data) else None
    if preceding is not None and _absorbs(net, preceding, node) and _channels_second(net, preceding):
        return f"folds into {net.row_of[preceding].name!r} before it, exactly"
    following = next((use.node for use in result.uses() if use.idx == 0 and _only_use(net, result)), None)
    if following is not None and _absorbs(net, following, node) and _unpadded(net, following):
        return f"folds into {net.row_of[following].name!r} after it, exactly"
    return None


def _before_bias(net: Net, value: ir.Value | None) -> ir.Value | None:
    """The value before an addition of a constant, where the sum is used once; else the value itself."""
    producer = value.producer() if value is not None and _only_use(net, value) else None
    if producer is None or producer.op_type != "Add" or net.constants.isdisjoint(producer.inputs):
        return value
    return next((operand for operand in producer.inputs if operand not in net.constants), None)


def _absorbs(net: Net, layer: ir.Node, norm: ir.Node) -> bool:
    """Whether a neighbour is a linear layer with a constant floating-point weight that nothing else uses."""
    if (
        layer.op_type not in LINEAR_OPERATORS
        or layer.domain
        or layer.graph is not norm.graph
        or len(layer.inputs) < 2
    ):
        return False
    weight = layer.inputs[1]
    sole_use = weight is not None and len(list(weight.uses())) == 1
    bias = [value for value in layer.inputs[2:] if value is not None]
    return sole_use and _is_constant(net, layer, 1) and net.constants.issuperset(bias)


def _is_constant(net: Net, node: ir.Node, index: int) -> bool:
    """Whether an input is a constant, and not a dequantized one."""
    value = node.inputs[index] if index < len(node.inputs) else None
    producer = value.producer() if value is not None else None
    return value in net.constants and (producer is None or producer.op_type != "DequantizeLinear")


def _only_use(net: Net, value: ir.Value) -> bool:
    return len(list(value.uses())) == 1 and not any(value in graph.outputs for graph in net.graphs)


def _channels_second(net: Net, node: ir.Node) -> bool:
    """Whether the layer's output channels are on the second axis, which batch norm normalizes."""
    shape = net.row_of[node].output
    return node.op_type != "MatMul" or (shape is not None and len(shape) == 2)


def _unpadded(net: Net, node: ir.Node) -> bool:
    """Whether the layer has no padding, whose zeros the shift would miss, and channels on the second axis."""
    if node.op_type == "Conv":
        axes = windows(net, node)
        return bool(axes) and not any(axis.begin or axis.end for axis in axes)
    shape = net.row_of[node].input_shapes[0]
    matrix = shape is not None and len(shape) == 2 and node.op_type in DENSE_OPERATORS
    return matrix and not node.attributes.get_int("transA", 0)


def _opset(net: Net) -> int:
    return net.model.opset_imports.get("", 1)


def _is_dropping(node: ir.Node, opset: int) -> bool:
    if opset < 7:
        return not node.attributes.get_int("is_test", 0)
    return len(node.inputs) > 2 and bool(scalar_constant(node.inputs[2]))


def _ratio(node: ir.Node) -> float | None:
    """The share of values that is dropped; None where it isn't constant."""
    if "ratio" in node.attributes:
        return node.attributes.get_float("ratio", 0.5)
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return 0.5
    ratio = scalar_constant(node.inputs[1])
    return None if ratio is None else float(ratio)


def _is_training(net: Net, node: ir.Node) -> bool:
    from modelsurgeon.onnx.passes.batchnorm.nodes import is_training  # imports scipy, which info doesn't need

    return is_training(net.model, node)
