"""Corrections of onnx_shape_inference's rules for standard operators."""

from __future__ import annotations

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.shapes.rules.parts import expression, smaller_size
from modelsurgeon.onnx.shapes.rules.registration import correct_rule

# The operands are broadcast to one shape.
BROADCASTING_OPERATORS = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)


def register() -> None:
    """Add the corrections to the registry."""
    for op in BROADCASTING_OPERATORS:
        correct_rule(op, _broadcast_open_sizes)
    for op in ("AveragePool", "LpPool", "MaxPool"):
        correct_rule(op, _drop_window)
    correct_rule("Slice", _limit_slice)
    correct_rule("Squeeze", _clear_if_dynamic)


def _clear_if_dynamic(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Clear the output shape of a Squeeze whose axes are only known at run time.

    Without axes these are the axes of size 1, and an open size may be 1; the library keeps open ones.
    """
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    data = node.inputs[0]
    if axes is not None:
        dynamic = ctx.get_symbolic_value(axes) is None
    else:
        given = "axes" in node.attributes
        dynamic = not given and any(map(_may_be_one, data.shape or () if data is not None else ()))
    if dynamic:
        node.outputs[0].shape = None


def _may_be_one(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and (expression(size) - 1).is_nonzero is not True


def _broadcast_open_sizes(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Set an open size of the result to the largest of the operands': they are equal, or all others are 1."""
    result = node.outputs[0].shape
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    if result is None or result.is_static() or len(shapes) < 2:
        return
    if all(shape is shapes[0] or shape == shapes[0] for shape in shapes):
        return
    dims = list(result)
    for back in range(1, len(dims) + 1):
        if not isinstance(dims[-back], int):
            dims[-back] = _larger([shape[-back] for shape in shapes if shape.rank() >= back])
    node.outputs[0].shape = ir.Shape(dims)


def _larger(sizes: list[int | ir.SymbolicDim]) -> ir.SymbolicDim:
    """The largest of several open sizes; known sizes among them are 1.

    Sizes in the same symbols are taken as equal, written in different ways: the shortest formula is returned.
    """
    found = list(dict.fromkeys(size for size in sizes if isinstance(size, ir.SymbolicDim)))
    if any(size.value is None for size in found):
        return ir.SymbolicDim(None)
    if len({size.free_symbols() for size in found}) == 1:
        return min(found, key=lambda size: len(str(size)))
    return ir.SymbolicDim(sympy.Max(*(size._expr for size in found), evaluate=False))


def _drop_window(_: ShapeInferenceContext, node: ir.Node) -> None:
    """With ceil_mode, drop a last window that would begin in the padding at the end."""
    data, result = node.inputs[0], node.outputs[0]
    if not node.attributes.get_int("ceil_mode", 0) or data is None or not data.shape or not result.shape:
        return
    spatial = len(result.shape) - 2
    strides = node.attributes.get_ints("strides", None) or (1,) * spatial
    pads = node.attributes.get_ints("pads", None) or (0,) * spatial
    dims = list(result.shape)
    for axis, (stride, pad) in enumerate(zip(strides, pads, strict=False), start=2):
        size, count = data.shape[axis], dims[axis]
        if isinstance(size, ir.SymbolicDim) and isinstance(count, ir.SymbolicDim):
            last = (size + pad - 1) // stride + 1
            dims[axis] = ir.SymbolicDim(sympy.Min(count._expr, last._expr, evaluate=False))
    for output in node.outputs:  # a second one has the places of the maxima
        output.shape = ir.Shape(dims)


def _limit_slice(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Limit the size of a slice of an open axis to the size of that axis."""
    data, result = node.inputs[0], node.outputs[0]
    if data is None or data.shape is None or result.shape is None:
        return
    starts, ends, axes, steps = (
        small_constant(node.inputs[index]) if index < len(node.inputs) else None for index in (1, 2, 3, 4)
    )
    if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
        return
    dims = list(result.shape)
    sliced_axes = range(len(starts)) if axes is None else axes.tolist()
    for axis, start, end in zip(sliced_axes, starts.tolist(), ends.tolist(), strict=True):
        size = data.shape[axis]
        if isinstance(size, ir.SymbolicDim) and start >= 0 and end >= 0:
            dims[axis] = smaller_size(size, end) - start
    result.shape = ir.Shape(dims)
