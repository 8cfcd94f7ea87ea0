"""Shape rules of standard operators in place of onnx_shape_inference's, which are wrong or know less."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant, taken_branch
from modelsurgeon.onnx.shapes.dimensions import as_dim, expression_of
from modelsurgeon.onnx.shapes.rules.parts import integers, known_sizes, optional_input
from modelsurgeon.onnx.shapes.rules.registration import correct_rule, newest_rule, replace_rule

Size = int | ir.SymbolicDim


def register() -> None:
    """Add the rules to the registry."""
    replace_rule("Einsum", _einsum)
    replace_rule("PRelu", newest_rule("Add"))  # the library takes the shape of the input; both are broadcast
    replace_rule("Split", _split)
    replace_rule("Unique", _unique)
    correct_rule("If", _shape_of_branches)


def _shape_of_branches(_: ShapeInferenceContext, node: ir.Node) -> None:
    """The shape of the branch that is taken, or that of both.

    The library takes the shape of one branch where that of the other is unknown, whichever is taken.
    """
    taken = taken_branch(node)
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    for index, output in enumerate(node.outputs):
        if isinstance(output.type, ir.TensorType):
            ends = [branch.outputs[index].shape for branch in ([taken] if taken is not None else branches)]
            if None in ends:
                output.shape = None
            elif taken is not None:
                output.shape = ends[0]


def _split(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Parts of given or equal sizes.

    The library takes the parts as equal where their sizes are an input that isn't constant, and knows none of
    three or more equal parts of an open axis.
    """
    data = node.inputs[0]
    if data is None or data.shape is None:
        for output in node.outputs:
            ctx.set_shape_and_dtype(output, None, None if data is None else data.dtype)
        return
    axis = node.attributes.get_int("axis", 0)
    if not -data.shape.rank() <= axis < data.shape.rank():
        ctx.record_error(node, f"axis {axis} is out of range for {data.shape.rank()} axes")
    sizes = _parts(ctx, node, data.shape[axis])
    for output, size in zip(node.outputs, sizes, strict=False):
        dims = list(data.shape)
        dims[axis] = size
        ctx.set_shape_and_dtype(output, ir.Shape(dims), data.dtype)
    contents = ctx.get_symbolic_value(data) if data.shape.rank() == 1 else None
    known = [size for size in sizes if isinstance(size, int)]
    if contents is not None and len(known) == len(sizes):
        for output, size, end in zip(node.outputs, known, np.cumsum(known).tolist(), strict=False):
            ctx.set_symbolic_value(output, contents[end - size : end])


def _parts(ctx: ShapeInferenceContext, node: ir.Node, size: Size) -> list[Size]:
    """Sizes of the parts of an axis, one for each output."""
    given, count = optional_input(node, 1), len(node.outputs)
    if given is not None:
        known = known_sizes(ctx, given)
        return [ctx.new_symbolic_dim() for _ in range(count)] if known is None else known
    if "split" in node.attributes:
        return list(integers(node, "split"))
    if isinstance(size, int):
        part = -(-size // count)
        last = size - (count - 1) * part
        if last < 0 or (ctx.opset < 18 and last != part):
            ctx.record_error(node, f"an axis of size {size} has no {count} equal parts")
        return [*[part] * (count - 1), last]
    # Before opset 18 the parts are equal; since then the last may be smaller.
    quotient = expression_of(size) / count
    opened = sympy.ceiling(quotient) if ctx.opset >= 18 else quotient
    return [*[as_dim(opened)] * (count - 1), as_dim(expression_of(size) - (count - 1) * opened)]


def _unique(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Along an axis the entries keep their other axes, which the library forgets; the inverse is as long as
    what was sorted.
    """
    data, array = node.inputs[0], small_constant(node.inputs[0])
    axis = node.attributes.get_int("axis", None)
    shape = None if data is None else data.shape
    count: Size = ctx.new_symbolic_dim() if array is None else np.unique(array, axis=axis).shape[axis or 0]
    dims: list[Size] | None = [count]
    if axis is not None and shape is not None:
        dims = list(shape)
        dims[axis] = count
    elif axis is not None:
        dims = None
    if shape is None:
        sorted_size: Size = ctx.new_symbolic_dim()
    else:
        sorted_size = as_dim(prod(map(expression_of, shape))) if axis is None else shape[axis]
    entries = ir.Shape([count])
    shapes = (None if dims is None else ir.Shape(dims), entries, ir.Shape([sorted_size]), entries)
    dtypes = (None if data is None else data.dtype, *[ir.DataType.INT64] * 3)
    for output, found, dtype in zip(node.outputs, shapes, dtypes, strict=False):
        ctx.set_shape_and_dtype(output, found, dtype)


def _einsum(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The size of a letter, or of an axis under an ellipsis, is that of the operands that aren't 1.

    The library takes a letter's size from the first operand that has it, and none where sizes under an
    ellipsis are open.
    """
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    operands = terms.split(",")
    if len(shapes) < len(node.inputs) or len(operands) != len(shapes):
        _set_dims(ctx, node, None)
        return
    labelled = [_labels(ctx, node, term, shape) for term, shape in zip(operands, shapes, strict=True)]
    found: dict[str, Size] = {}
    for labels, shape in zip(labelled, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            found[label] = _joint(found.get(label, 1), size)
    under_ellipsis = sorted((label for label in found if len(label) > 1), key=int, reverse=True)
    if not arrow:
        counts = Counter(letter for term in operands for letter in term.replace("...", ""))
        result = "..." + "".join(sorted(letter for letter, count in counts.items() if count == 1))
    kept = [*result.replace("...", ".")]
    labels = [label for letter in kept for label in (under_ellipsis if letter == "." else [letter])]
    _set_dims(ctx, node, [found[label] if label in found else ctx.new_symbolic_dim() for label in labels])


def _labels(ctx: ShapeInferenceContext, node: ir.Node, term: str, shape: ir.Shape) -> list[str]:
    """A label for each axis of an operand: its letter, or its distance from the end of an ellipsis."""
    before, ellipsis, after = term.partition("...")
    hidden = shape.rank() - len(before) - len(after)
    if hidden < 0 or (hidden and not ellipsis):
        ctx.record_error(node, f"the operand {term!r} has {shape.rank()} axes")
    return [*before, *(f"{back:02}" for back in range(hidden, 0, -1)), *after]


def _joint(first: Size, second: Size) -> Size:
    """The common size of axes of which one may be 1."""
    if second in (first, 1):
        return first
    return second if first == 1 or (isinstance(second, int) and not isinstance(first, int)) else first


def _set_dims(ctx: ShapeInferenceContext, node: ir.Node, dims: list[Size] | None) -> None:
    """Set the shape of the output, in the type of the first input."""
    first = node.inputs[0]
    ctx.set_shape_and_dtype(
        node.outputs[0], None if dims is None else ir.Shape(dims), None if first is None else first.dtype
    )
