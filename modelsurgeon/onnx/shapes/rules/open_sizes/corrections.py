"""Sizes of open axes: rules of onnx_shape_inference that leave one out, or that hold for large sizes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.shapes.rules.open_sizes import arithmetic
from modelsurgeon.onnx.shapes.rules.open_sizes.arithmetic import Entry
from modelsurgeon.onnx.shapes.rules.open_sizes.contents import as_entry, in_dims, integers_of, range_length
from modelsurgeon.onnx.shapes.rules.parts import integers
from modelsurgeon.onnx.shapes.rules.registration import correct_rule
from modelsurgeon.onnx.shapes.rules.sizes import window_counts

Dim = int | ir.SymbolicDim

# The operands are broadcast to one shape.
BROADCASTING_OPERATORS = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)
COMPARED_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 224)


def register() -> None:
    """Add the corrections to the registry."""
    for op in BROADCASTING_OPERATORS:
        correct_rule(op, _broadcast)
    for op in ("AveragePool", "LpPool", "MaxPool"):
        correct_rule(op, _pool)
    for op in ("MatMul", "MatMulInteger"):
        correct_rule(op, _broadcast_batches)
    for op, correct in CORRECTIONS.items():
        correct_rule(op, correct)


def _dim(ctx: ShapeInferenceContext, entry: Entry) -> Dim:
    """An entry as a dimension; a new symbol where it isn't known, or is too long."""
    known = entry is not None and arithmetic.is_readable(entry)
    dim: Dim = in_dims(entry) if known else ctx.new_symbolic_dim()
    return dim


def _broadcast(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Set an open size of the result to the largest of the operands': they are equal, or all others are 1."""
    result = node.outputs[0].shape
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    if result is None or result.is_static() or len(shapes) < 2:
        return
    if all(shape is shapes[0] or shape == shapes[0] for shape in shapes):
        return
    node.outputs[0].shape = ir.Shape(_larger_open(list(result), [shape.dims for shape in shapes]))


def _broadcast_batches(_: ShapeInferenceContext, node: ir.Node) -> None:
    """As `_broadcast`, for the axes before those of the matrices."""
    result = node.outputs[0].shape
    shapes = [value.shape for value in node.inputs[:2] if value is not None and value.shape is not None]
    if result is None or len(shapes) < 2 or min(map(len, shapes)) < 2 or len(result) < 3:
        return
    batches = _larger_open(list(result.dims[:-2]), [shape.dims[:-2] for shape in shapes])
    node.outputs[0].shape = ir.Shape([*batches, *result.dims[-2:]])


def _expand(_: ShapeInferenceContext, node: ir.Node) -> None:
    """As `_broadcast`, where the second operand contains a shape."""
    data, result = node.inputs[0], node.outputs[0].shape
    target = integers_of(node.inputs[1])
    if data is None or data.shape is None or result is None or result.is_static() or target is None:
        return
    if None not in target:
        dims = [in_dims(entry) for entry in target]
        node.outputs[0].shape = ir.Shape(_larger_open(list(result), [data.shape.dims, dims]))


def _larger_open(result: list[Dim], operands: Sequence[Sequence[Dim]]) -> list[Dim]:
    """The result with its open sizes replaced by the largest of the operands'."""
    for back in range(1, len(result) + 1):
        if not isinstance(result[-back], int):
            result[-back] = _larger([dims[-back] for dims in operands if len(dims) >= back])
    return result


def _larger(sizes: list[Dim]) -> Dim:
    """The largest of several open sizes; known sizes among them are 1.

    Sizes in the same symbols are taken as equal where none of them is 1: the shortest formula is returned of
    those that aren't 1 where another one is larger.
    """
    found = list(dict.fromkeys(size for size in sizes if isinstance(size, ir.SymbolicDim)))
    if len(found) == 1 or any(size.value is None for size in found):
        return found[0] if len(found) == 1 else ir.SymbolicDim(None)
    if len({size.free_symbols() for size in found}) == 1:
        for size in sorted(found, key=lambda size: len(str(size))):
            if _never_stretched(size._expr, tuple(other._expr for other in found)):
                return size
    return ir.SymbolicDim(sympy.Max(*(size._expr for size in found), evaluate=False))


@cache
def _never_stretched(size: sympy.Expr, others: tuple[sympy.Expr, ...]) -> bool:
    """Whether a size isn't 1 where another one is larger, at the sizes that are tried."""
    for number in COMPARED_SIZES:
        given = {symbol: number + place for place, symbol in enumerate(sorted(size.free_symbols, key=str))}
        if size.subs(given) == 1 and any(other.subs(given) > 1 for other in others):
            return False
    return True


def _pool(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Count windows as onnxruntime does: open sizes under SAME padding, and maps smaller than the window."""
    data, result = node.inputs[0], node.outputs[0].shape
    if data is None or data.shape is None or result is None:
        return
    dims = [*result.dims[:2], *window_counts(node, data.shape.dims[2:], integers(node, "kernel_shape"))]
    for value in node.outputs:
        value.shape = ir.Shape(dims)


def _operand(node: ir.Node, index: int, name: str, default: Sequence[int] = ()) -> list[Entry] | None:
    """Integers of an input, or of the attribute that it was before; None where they aren't known."""
    if index < len(node.inputs) and node.inputs[index] is not None:
        return integers_of(node.inputs[index])
    return list(integers(node, name) or default)


def _slice(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Sizes of slices of any bounds and steps: the bounds are limited to the axis."""
    data = node.inputs[0]
    starts, ends = _operand(node, 1, "starts"), _operand(node, 2, "ends")
    if data is None or data.shape is None:
        return
    axes = _operand(node, 3, "axes", range(len(starts or ())))
    if axes is None or None in axes or (starts is None and not axes):
        return
    unknown = [None] * len(axes)
    steps = _operand(node, 4, "steps", [1] * len(axes))
    dims = list(data.shape.dims)
    for start, end, axis, step in zip(
        starts or unknown, ends or unknown, axes, steps or unknown, strict=False
    ):
        dims[axis] = _dim(ctx, _sliced(as_entry(dims[axis]), start, end, step))
    node.outputs[0].shape = ir.Shape(dims)


def _sliced(size: Entry, start: Entry, end: Entry, step: Entry) -> Entry:
    if None in (size, start, end) or not isinstance(step, int):
        return None
    return arithmetic.slice_size(size, start, end, step)


def _squeeze(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Nothing where no axes are given: all axes of size 1 are removed, and an open one may be."""
    data, given = node.inputs[0], len(node.inputs) > 1 and node.inputs[1] is not None
    if given or "axes" in node.attributes or data is None or data.shape is None:
        return
    if any(map(_may_be_one, data.shape.dims)):
        node.outputs[0].shape = None


def _may_be_one(dim: Dim) -> bool:
    entry = as_entry(dim)
    return entry is None or (not isinstance(entry, int) and not (entry - 1).is_positive)


def _range(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Number of elements of a Range whose step is a number of either sign."""
    shape = node.outputs[0].shape
    if shape is not None and not shape.is_static():
        count = range_length(node)
        node.outputs[0].shape = ir.Shape([_dim(ctx, count)])


def _concat(_: ShapeInferenceContext, node: ir.Node) -> None:
    """The size of an axis that was cut in two and is joined again, in one order or the other."""
    result = node.outputs[0].shape
    if result is None or result.is_static() or len(node.inputs) < 2:
        return
    axis = node.attributes.get_int("axis", 0)
    entry = as_entry(result[axis]) if -len(result) <= axis < len(result) else None
    if entry is not None:
        dims = list(result.dims)
        dims[axis] = in_dims(arithmetic.rejoined(entry))
        node.outputs[0].shape = ir.Shape(dims)


def _compress(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Entries that a constant condition keeps; what it keeps behind the end of the axis doesn't count."""
    data, result = node.inputs[0], node.outputs[0].shape
    kept = small_constant(node.inputs[1])
    if data is None or data.shape is None or result is None or kept is None:
        return
    axis = node.attributes.get_int("axis", None)
    size = _product(map(as_entry, data.shape.dims)) if axis is None else as_entry(data.shape[axis])
    edges = np.flatnonzero(np.diff(kept.astype(np.int8).ravel(), prepend=0, append=0)).tolist()
    count: Entry = None
    if size is not None and (isinstance(size, int) or len(edges) < arithmetic.MAX_TERMS):
        ends = [arithmetic.smallest(size, edge) for edge in edges]
        count = arithmetic.plain(sum(ends[1::2]) - sum(ends[::2]))
    dims = list(result.dims)
    dims[axis or 0] = _dim(ctx, count)
    node.outputs[0].shape = ir.Shape(dims)


def _constant_of_shape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The shape that the input contains."""
    shape = integers_of(node.inputs[0])
    if shape is not None:
        node.outputs[0].shape = ir.Shape([_dim(ctx, size) for size in shape])


def _pad(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Axes whose paddings are known, where others aren't."""
    data, pads = node.inputs[0], _operand(node, 1, "pads")
    if data is None or data.shape is None or pads is None or len(node.inputs) < 2:
        return
    axes = _operand(node, 3, "axes", range(len(data.shape)))
    if axes is None or None in axes or len(pads) != 2 * len(axes):
        return
    dims = list(data.shape.dims)
    for place, axis in enumerate(axes):
        parts = as_entry(dims[axis]), pads[place], pads[place + len(axes)]
        dims[axis] = _dim(ctx, None if None in parts else arithmetic.plain(sum(parts)))
    node.outputs[0].shape = ir.Shape(dims)


def _reshape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The one size of the target that isn't known, or is -1, from the number of elements."""
    data, target = node.inputs[0], _operand(node, 1, "shape")
    result = node.outputs[0].shape
    if data is None or data.shape is None or result is None or not target or result.is_static():
        return
    left = [place for place, size in enumerate(target) if size in (None, -1)]
    if len(left) != 1 or len(result) != len(target):
        return
    others = [as_entry(dim) for place, dim in enumerate(result.dims) if place != left[0]]
    total, known = _product(map(as_entry, data.shape.dims)), _product(others)
    if total is None or known is None or known == 0:
        return
    dims = list(result.dims)
    dims[left[0]] = _dim(ctx, _quotient(total, known))
    node.outputs[0].shape = ir.Shape(dims)


@cache
def _quotient(total: Entry, known: Entry) -> Entry:
    """The quotient of two products of which one divides the other, in lowest terms."""
    quotient = arithmetic.ratio(total, known)
    if arithmetic.is_open(quotient):
        quotient = arithmetic.cancelled(quotient)
    return arithmetic.floored(quotient)


def _product(entries: Iterable[Entry]) -> Entry:
    found: Entry = 1
    for entry in entries:
        found = None if entry is None or found is None else found * entry
    return None if found is None else arithmetic.plain(found)


CORRECTIONS: dict[str, Callable[[ShapeInferenceContext, ir.Node], None]] = {
    "Compress": _compress,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
}
