"""Nodes that keep every s-th position of a map, absorbed into the stride of the convolution before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.passes.batchnorm.nodes import is_training
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.linear_nodes import check_single_use, remove_node
from modelsurgeon.onnx.passes.op_predicates import UNARY, dims

POOLS = ("AveragePool", "MaxPool")


def is_subsampling(node: ir.Node) -> bool:
    """Whether the node seems to keep every s-th position; whether it can be absorbed is checked later."""
    if node.op_type == "Slice":
        steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
        return steps is not None and bool((steps > 1).any())
    strided = any(s > 1 for s in node.attributes.get_ints("strides", ()))
    if node.op_type in POOLS:
        return strided and set(node.attributes.get_ints("kernel_shape", ())) == {1}
    weight = constant_array(node.inputs[1]) if node.op_type == "Conv" else None
    return weight is not None and strided and set(weight.shape[2:]) == {1}


def absorb_subsampling(context: PassContext, node: ir.Node) -> str:
    """Absorb the node into the stride of the convolution before it; the convolution's name.

    Raises UnsupportedLayer with the reason to skip it.
    """
    steps = _steps(context, node)
    conv, between = _previous_conv(context, node)
    sizes = dims(context, conv.inputs[0])
    whole = None if sizes is None or None in sizes[2:] else tuple(n or 1 for n in sizes)
    layer = operators.read(conv, whole)
    begins, ends = zip(*layer.padding, strict=True)
    strides = [s * step for s, step in zip(layer.stride, steps, strict=True)]
    conv.attributes.add(ir.AttrInt64s("strides", strides))
    conv.attributes.add(ir.AttrInt64s("pads", begins + ends))
    conv.attributes.pop("auto_pad", None)
    for resized in (conv, *between):
        resized.outputs[0].shape = None
    if node.op_type == "Conv":
        node.attributes.add(ir.AttrInt64s("strides", [1] * len(steps)))
    else:
        remove_node(context, node)
    return context.names[conv]


def _previous_conv(context: PassContext, node: ir.Node) -> tuple[ir.Node, list[ir.Node]]:
    """The convolution before the node, and the nodes between.

    Raises UnsupportedLayer where there is none, or a value between them has other uses.
    """
    between: list[ir.Node] = []
    value = node.inputs[0]
    while True:
        before = None if value is None else value.producer()
        if value is None or before is None or before.domain or before.graph is not context.graph:
            raise UnsupportedLayer("no convolution comes before it")
        check_single_use(value)
        if before.op_type == "Conv":
            return before, between
        fixed = before.op_type == "BatchNormalization" and not is_training(context.model, before)
        if before.op_type not in UNARY and not fixed:
            raise UnsupportedLayer(f"between it and a convolution is {before.op_type}")
        between.append(before)
        value = before.inputs[0]


def _steps(context: PassContext, node: ir.Node) -> list[int]:
    """The step s of the kept positions, for every spatial axis."""
    sizes = dims(context, node.inputs[0])
    if sizes is None:
        raise UnsupportedLayer("the number of its axes isn't known")
    if node.op_type == "Slice":
        return _slice_steps(node, sizes)
    if any(node.attributes.get_ints("pads", ())):
        raise UnsupportedLayer("it is padded")
    if node.op_type == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].uses():
        raise UnsupportedLayer("the indices of its maxima are used")
    # Rounding up (ceil_mode) adds no window of one tap: it would start after the map.
    return list(node.attributes.get_ints("strides", ()))


def _slice_steps(node: ir.Node, sizes: list[int | None]) -> list[int]:
    starts, ends, axes, steps = (constant_array(value) for value in _slice_inputs(node))
    if starts is None or ends is None or steps is None:
        raise UnsupportedLayer("where it starts and ends is computed at run time")
    strides = [1] * len(sizes)
    places = np.arange(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(places % len(sizes), starts, ends, steps, strict=True):
        size = sizes[axis]
        to_end = end >= np.iinfo(np.int32).max or (size is not None and end >= size)
        if start != 0 or not to_end or step < 1 or (axis < 2 and step > 1):
            raise UnsupportedLayer("it doesn't keep exactly every s-th position")
        strides[axis] = int(step)
    return strides[2:]


def _slice_inputs(node: ir.Node) -> list[ir.Value | None]:
    found = list(node.inputs[1:5])
    return found + [None] * (4 - len(found))
