"""Arithmetic of sizes: the windows of pools and convolutions, quotients, extremes, broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir
import sympy
from onnx_shape_inference import OpUsageError

from modelsurgeon.onnx.shapes.dimensions import expression_of
from modelsurgeon.onnx.shapes.rules.open_sizes.arithmetic import never_negative
from modelsurgeon.onnx.shapes.rules.parts import integers

Size = int | ir.SymbolicDim


def window_counts(node: ir.Node, sizes: Sequence[Size], kernel: Sequence[Size]) -> list[Size]:
    """Number of windows along each axis, by the attributes strides, dilations, pads, auto_pad and ceil_mode.

    sizes: of the axes that the windows slide over. kernel: taps along each of them. A window that
    misses less than a stride of its map counts in a pool: onnxruntime rounds towards 0.
    """
    axes = len(sizes)
    strides, dilations = (integers(node, name) or [1] * axes for name in ("strides", "dilations"))
    pads = integers(node, "pads") or [0] * 2 * axes
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    if padding == "VALID":
        pads = [0] * 2 * axes
    is_pool = "pool" in node.op_type.lower()
    is_rounded_up = bool(node.attributes.get_int("ceil_mode", 0))
    counts: list[Size] = []
    for axis, (size, taps, stride, dilation) in enumerate(
        zip(sizes, kernel, strides, dilations, strict=True)
    ):
        if padding.startswith("SAME"):
            counts.append(divided_rounding_up(size, stride))
            continue
        begin, end = pads[axis], pads[axis + axes]
        room = size + begin + end - dilation * (taps - 1) - 1
        if isinstance(room, int) and room < 0:
            if room <= -2 * stride or not is_pool:
                raise OpUsageError(node, f"a window of {taps} doesn't fit a map of {size}")
            counts.append(divided_rounding_up(room, stride) + 1)
        elif is_rounded_up:  # a last window that would begin in the padding at the end is dropped
            counts.append(smaller(divided_rounding_up(room, stride) + 1, (size + begin - 1) // stride + 1))
        elif stride > 1 and is_pool and not isinstance(room, int):
            counts.append(_rounded_towards_zero(room, stride))
        else:
            counts.append(room // stride + 1)
    return counts


def _rounded_towards_zero(room: ir.SymbolicDim, stride: int) -> ir.SymbolicDim:
    """Number of windows in an open map that may be smaller than the window."""
    count, least = room // stride + 1, expression_of(room)
    if room.value is None or never_negative(least):
        return count
    few: Size = 1 if never_negative(least + stride - 1) else smaller(1, math.ceil(room / stride) + 1)
    return larger(count, few)  # type: ignore[return-value] # one of both is open


def divided_rounding_up(size: Size, divisor: int) -> Size:
    """Quotient of a size, rounded up."""
    if isinstance(size, int):
        return -(-size // divisor)
    return size if divisor == 1 else math.ceil(size / divisor)


def smaller(one: Size, another: Size) -> Size:
    """The smaller of two sizes."""
    if isinstance(one, int) and isinstance(another, int):
        return min(one, another)
    return ir.SymbolicDim(sympy.Min(*map(expression_of, (one, another)), evaluate=False))


def larger(one: Size, another: Size) -> Size:
    """The larger of two sizes."""
    if isinstance(one, int) and isinstance(another, int):
        return max(one, another)
    return (
        one
        if one == another
        else ir.SymbolicDim(sympy.Max(*map(expression_of, (one, another)), evaluate=False))
    )


def broadcast(shapes: Sequence[ir.Shape]) -> ir.Shape:
    """The shape to which several are broadcast; of different open sizes each axis gets the largest."""
    dims: list[Size] = [1] * max(shape.rank() for shape in shapes)
    for shape in shapes:
        for back in range(1, shape.rank() + 1):
            if dims[-back] == 1 or (isinstance(shape[-back], int) and shape[-back] != 1):
                dims[-back] = shape[-back]
            elif not isinstance(dims[-back], int) and shape[-back] != 1:
                dims[-back] = larger(dims[-back], shape[-back])
    return ir.Shape(dims)
