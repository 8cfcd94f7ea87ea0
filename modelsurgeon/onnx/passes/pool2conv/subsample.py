"""Nodes that keep every s-th position of a map, and how the convolution before them does it by itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.passes.batchnorm.nodes import is_training
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.linear_nodes import check_alone, remove
from modelsurgeon.onnx.passes.op_predicates import UNARY, dims

POOLS = ("AveragePool", "MaxPool")


def keeps(node: ir.Node) -> bool:
    """Whether the node looks as if it kept some positions and dropped others; no claim that it can go."""
    if node.op_type == "Slice":
        steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
        return steps is not None and bool((steps > 1).any())
    strided = any(s > 1 for s in node.attributes.get_ints("strides", ()))
    if node.op_type in POOLS:
        return strided and set(node.attributes.get_ints("kernel_shape", ())) == {1}
    weight = constant_array(node.inputs[1]) if node.op_type == "Conv" else None
    return weight is not None and strided and set(weight.shape[2:]) == {1}


def absorb(subject: PassContext, node: ir.Node) -> str:
    """Let the convolution before the node keep only what the node keeps; the convolution's name.

    Raises UnsupportedLayer with the reason why it can't.
    """
    steps = _steps(subject, node)
    conv, between = _before(subject, node)
    sizes = dims(subject, conv.inputs[0])
    whole = None if sizes is None or None in sizes[2:] else tuple(n or 1 for n in sizes)
    layer = operators.read(conv, whole)
    begins, ends = zip(*layer.padding, strict=True)
    strides = [s * step for s, step in zip(layer.stride, steps, strict=True)]
    conv.attributes.add(ir.AttrInt64s("strides", strides))
    conv.attributes.add(ir.AttrInt64s("pads", begins + ends))
    conv.attributes.pop("auto_pad", None)
    for each in (conv, *between):
        each.outputs[0].shape = None
    if node.op_type == "Conv":
        node.attributes.add(ir.AttrInt64s("strides", [1] * len(steps)))
    else:
        remove(subject, node)
    return subject.names[conv]


def _before(subject: PassContext, node: ir.Node) -> tuple[ir.Node, list[ir.Node]]:
    """The convolution, and what stands between it and the node; all of it serves the node alone."""
    between: list[ir.Node] = []
    value = node.inputs[0]
    while True:
        before = None if value is None else value.producer()
        if value is None or before is None or before.domain or before.graph is not subject.graph:
            raise UnsupportedLayer("no convolution stands before it")
        check_alone(value)
        if before.op_type == "Conv":
            return before, between
        fixed = before.op_type == "BatchNormalization" and not is_training(subject.model, before)
        if before.op_type not in UNARY and not fixed:
            raise UnsupportedLayer(f"between it and a convolution stands {before.op_type}")
        between.append(before)
        value = before.inputs[0]


def _steps(subject: PassContext, node: ir.Node) -> list[int]:
    """Of which positions along every spatial axis the node keeps one."""
    sizes = dims(subject, node.inputs[0])
    if sizes is None:
        raise UnsupportedLayer("the number of its axes isn't known")
    if node.op_type == "Slice":
        return _sliced(node, sizes)
    if any(node.attributes.get_ints("pads", ())):
        raise UnsupportedLayer("it is padded")
    if node.op_type == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].uses():
        raise UnsupportedLayer("the places of its maxima are used")
    # Rounding up (ceil_mode) adds no window of one tap: it would start behind the map.
    return list(node.attributes.get_ints("strides", ()))


def _sliced(node: ir.Node, sizes: list[int | None]) -> list[int]:
    starts, ends, axes, steps = (constant_array(value) for value in _padded(node))
    if starts is None or ends is None or steps is None:
        raise UnsupportedLayer("where it starts and ends is computed at run time")
    kept = [1] * len(sizes)
    places = np.arange(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(places % len(sizes), starts, ends, steps, strict=True):
        size = sizes[axis]
        far = end >= np.iinfo(np.int32).max or (size is not None and end >= size)
        if start != 0 or not far or step < 1 or (axis < 2 and step > 1):
            raise UnsupportedLayer("it drops more than every position but the s-th")
        kept[axis] = int(step)
    return kept[2:]


def _padded(node: ir.Node) -> list[ir.Value | None]:
    found = list(node.inputs[1:5])
    return found + [None] * (4 - len(found))
