"""Shape rules of old opsets that onnx_shape_inference lacks."""

from __future__ import annotations

from math import prod

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.shapes.rules.parts import integers, optional_input, same_as_first
from modelsurgeon.onnx.shapes.rules.registration import newest_rule, oldest_rule, register_missing

# Operators whose rule for a later version holds for opset 1, too: no shape changed between the versions.
SAME_SINCE_OPSET_1 = (
    "Dropout",
    "GRU",
    "Gemm",
    "GroupNormalization",
    "LSTM",
    "LayerNormalization",
    "RNN",
    "Split",
)
# Before opset 7 the second operand was broadcast to the first one's shape, and n-ary operands had one shape.
SHAPE_OF_FIRST_OPERAND = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum"),
    *("And", "Or", "Xor", "Equal", "Greater", "Less"),
)

# Experimental operators that were removed from the standard; runtimes still know them.
EXPERIMENTAL = ("Affine", "ImageScaler", "ParametricSoftplus", "ScaledTanh")


def register() -> None:
    """Add the rules to the registry."""
    for op in SHAPE_OF_FIRST_OPERAND:
        register_missing("", op, same_as_first)
    for op in SAME_SINCE_OPSET_1:
        register_missing("", op, oldest_rule(op))
    for op, rule in (
        *(("Concat", _concat), ("Crop", _crop), ("Reshape", _reshape)),
        *(("Tile", _tile), ("TopK", _top_k)),
    ):
        register_missing("", op, rule)
    for op in (*EXPERIMENTAL, "Slice"):  # the sizes of a Slice are corrected for all opsets
        register_missing("", op, same_as_first)
    registry.register("", "Cast", since_version=6)(newest_rule("Cast"))
    registry.register("", "Cast", since_version=1)(_cast)


def _cast(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Cast of opset 1: the type is given by its name."""
    data, name = node.inputs[0], node.attributes.get("to")
    if data is not None and name is not None and name.type == ir.AttributeType.STRING:
        ctx.set_shape_and_dtype(node.outputs[0], data.shape, ir.DataType[name.as_string().upper()])
    else:
        newest_rule("Cast")(ctx, node)


def _concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Concat of opset 1: the axis is 1 where none is given."""
    axis = node.attributes.get_int("axis", 1)
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    if not shapes or len(shapes) < len(node.inputs):
        return
    dims = list(shapes[0])
    for shape in shapes[1:]:
        dims[axis] = dims[axis] + shape[axis]
    dtype = next((value.dtype for value in node.inputs if value is not None), None)
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), dtype)


def _crop(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Crop, an experimental operator: a border (left, top, right, bottom) is cut off, or a size is kept."""
    data = node.inputs[0]
    border, scale = integers(node, "border"), integers(node, "scale")
    if data is None or data.shape is None or data.shape.rank() != 4 or len(border) != 4:
        return
    left, top, right, bottom = border
    height, width = scale or (data.shape[2] - top - bottom, data.shape[3] - left - right)
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*data.shape[:2], height, width]), data.dtype)


def _reshape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Reshape of opset 1: the target is an attribute."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    target: list[int | ir.SymbolicDim] = [
        data.shape[axis] if size == 0 else size for axis, size in enumerate(integers(node, "shape"))
    ]
    if -1 in target:
        index = target.index(-1)
        fixed = [size for size in target if isinstance(size, int)]
        known = [size for size in data.shape if isinstance(size, int)]
        whole = len(fixed) == len(target) and len(known) == data.shape.rank() and 0 not in fixed
        target[index] = prod(known) // -prod(fixed) if whole else ctx.new_symbolic_dim()
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(target), data.dtype)


def _tile(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Tile of opset 1: one axis is repeated, and both are scalars."""
    data = node.inputs[0]
    repeats, axis = (small_constant(optional_input(node, index)) for index in (1, 2))
    if data is None or data.shape is None:
        return
    dims = [ctx.new_symbolic_dim() for _ in data.shape]
    if repeats is not None and axis is not None:
        dims = list(data.shape)
        dims[int(axis.item())] *= int(repeats.item())
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


def _top_k(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """TopK of opset 1: k is an attribute."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    dims = list(data.shape)
    dims[node.attributes.get_int("axis", -1)] = node.attributes.get_int("k", 1)
    for output, dtype in zip(node.outputs, (data.dtype, ir.DataType.INT64), strict=False):
        if dtype is not None:
            ctx.set_shape_and_dtype(output, ir.Shape(dims), dtype)
