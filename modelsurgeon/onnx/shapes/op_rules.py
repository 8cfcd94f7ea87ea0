"""Shape rules that onnx_shape_inference lacks: old opsets, and some contrib operators of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import cast

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.graph.constant_folding import small_constant

Rule = Callable[[ShapeInferenceContext, ir.Node], None]

# The operands are broadcast to one shape.
BROADCASTING_OPERATORS = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)
MIN_OPEN_END = 10**8  # a slice that ends here or later ends with the axis

# Operators whose rule for a later version holds for opset 1, too: no shape changed between the versions.
SAME_SINCE_OPSET_1 = ("Dropout", "GRU", "Gemm", "GroupNormalization", "LSTM", "RNN", "Split")
# Before opset 7 the second operand was broadcast to the first one's shape, and n-ary operands had one shape.
SHAPE_OF_FIRST_OPERAND = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum"),
    *("And", "Or", "Xor", "Equal", "Greater", "Less"),
)
BOOLEAN_RESULTS = frozenset({"And", "Or", "Xor", "Equal", "Greater", "Less"})
# Contrib operators whose shapes are those of a standard one.
SAME_RULE_AS = {
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "DynamicQuantizeMatMul": "MatMul",
    "QuantizeLinear": "QuantizeLinear",
    "DequantizeLinear": "DequantizeLinear",
    "FusedMatMulActivation": "FusedMatMul",
    "GatherND": "GatherND",
    "GridSample": "GridSample",
    "MatMulInteger16": "MatMulInteger",
    "Pad": "Pad",
    "Range": "Range",
    "SparseToDenseMatMul": "MatMul",
    "Trilu": "Trilu",
}
# Contrib operators whose output has the shape of their input.
SHAPE_OF_INPUT = (
    *("BiasDropout", "BiasSoftmax", "BitmaskBiasDropout", "BitmaskDropout", "ComplexMul", "ComplexMulConj"),
    *("Inverse", "MulInteger"),
)
# Contrib operators whose last axis has the size of an attribute: one attribute for each output.
WIDTH_ATTRIBUTES = {"MatMulBnb4": ("N",), "MatMulNBitsMlp": ("N",), "MatMulNBitsQkv": ("Nq", "Nkv", "Nkv")}


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for op in SHAPE_OF_FIRST_OPERAND:
        _register_missing("", op, _same_as_first)
    for op in SAME_SINCE_OPSET_1:
        _register_missing("", op, _oldest_rule(op))
    for op, rule in (("Concat", _concat), ("Reshape", _reshape), ("Slice", _slice), ("TopK", _top_k)):
        _register_missing("", op, rule)
    for op, standard in SAME_RULE_AS.items():
        _register_missing(
            MICROSOFT_DOMAIN,
            op,
            registry.get(MICROSOFT_DOMAIN, standard, version=1) or _newest_rule(standard),
        )
    for op in SHAPE_OF_INPUT:
        _register_missing(MICROSOFT_DOMAIN, op, _same_as_first)
    for op in WIDTH_ATTRIBUTES:
        _register_missing(MICROSOFT_DOMAIN, op, _last_axis_from_attribute)
    for op in ("NhwcConv", "NhwcFusedConv"):
        _register_missing(MICROSOFT_DOMAIN, op, _channels_last)
    _register_missing(MICROSOFT_DOMAIN, "MatMulIntegerToFloat", _integer_to_float)
    _register_missing(MICROSOFT_DOMAIN, "DynamicQuantizeLSTM", _quantized_lstm)
    for op in BROADCASTING_OPERATORS:
        _correct_rule(op, _broadcast_open_sizes)
    for op in ("AveragePool", "LpPool", "MaxPool"):
        _correct_rule(op, _drop_window)
    _correct_rule("Slice", _limit_slice)
    _correct_rule("Split", _clear_if_dynamic)
    _correct_rule("Squeeze", _clear_if_dynamic)


def _register_missing(domain: str, op: str, rule: Rule) -> None:
    if registry.get(domain, op, version=1) is None:
        registry.register(domain, op, since_version=1)(rule)


def _correct_rule(op: str, correct: Rule) -> None:
    """Run a correction after every registered version of an operator's rule."""
    for version in registry.version_boundaries("", op):
        registry.register("", op, since_version=version)(_in_sequence(_rule_at(op, version), correct))


def _in_sequence(first: Rule, second: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        first(ctx, node)
        second(ctx, node)

    return rule


def _clear_if_dynamic(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Clear the output shapes of a Split or Squeeze whose sizes or axes are only known at run time."""
    sizes_or_axes = node.inputs[1] if len(node.inputs) > 1 else None
    if sizes_or_axes is not None and ctx.get_symbolic_value(sizes_or_axes) is None:
        for output in node.outputs:
            output.shape = None


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
    result.shape = ir.Shape(dims)


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
            dims[axis] = _smaller(size, end) - start
    result.shape = ir.Shape(dims)


def _smaller(size: ir.SymbolicDim, end: int) -> int | ir.SymbolicDim:
    """The smaller of an open size and an end."""
    return size if end >= MIN_OPEN_END else ir.SymbolicDim(f"Min({end}, {size})").evaluate({})


def _rule_at(op: str, version: int) -> Rule:
    return cast(Rule, registry.get("", op, version=version))


def _oldest_rule(op: str) -> Rule:
    return _rule_at(op, registry.version_boundaries("", op)[0])


def _newest_rule(op: str) -> Rule:
    return _rule_at(op, registry.version_boundaries("", op)[-1])


def _integer_to_float(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """MatMul of two integer tensors with a scaled result, in the type of the scale (float without one)."""
    scale = node.inputs[2] if len(node.inputs) > 2 else None
    ctx.set_dtype(node.outputs[0], (scale and scale.dtype) or ir.DataType.FLOAT)
    _newest_rule("MatMul")(ctx, node)


def _same_as_first(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    first = node.inputs[0] if node.inputs else None
    if first is not None:
        dtype = ir.DataType.BOOL if node.op_type in BOOLEAN_RESULTS else first.dtype
        ctx.set_shape_and_dtype(node.outputs[0], first.shape, dtype)


def _last_axis_from_attribute(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., k) -> (..., size given by an attribute), for each output that has one."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    for output, name in zip(node.outputs, WIDTH_ATTRIBUTES[node.op_type], strict=False):
        dims = [*data.shape.dims[:-1], node.attributes.get_int(name, 0)]
        ctx.set_shape_and_dtype(output, ir.Shape(dims), data.dtype or ir.DataType.FLOAT)


def _channels_last(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Input (batch, *spatial, channels), weight (out, in / groups, *kernel) as in Conv."""
    data, weight = node.inputs[:2]
    if data is None or data.shape is None or weight is None or weight.shape is None:
        return
    batch, *spatial, _ = data.shape
    axis_count = len(spatial)
    strides, dilations = (_ints(node, name) or [1] * axis_count for name in ("strides", "dilations"))
    pads = _ints(node, "pads") or [0] * 2 * axis_count
    kernel = _ints(node, "kernel_shape") or list(weight.shape)[2:]
    same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    sizes = [
        -(-size // stride) if same else (size + begin + end - dilation * (taps - 1) - 1) // stride + 1
        for size, stride, dilation, taps, begin, end in zip(
            spatial, strides, dilations, kernel, pads[:axis_count], pads[axis_count:], strict=True
        )
    ]
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([batch, *sizes, weight.shape[0]]), data.dtype)


def _ints(node: ir.Node, name: str) -> list[int]:
    attr = node.attributes.get(name)
    return list(attr.as_ints()) if attr is not None else []


def _concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Concat of opset 1: the axis is 1 where none is given."""
    axis = node.attributes.get_int("axis", 1)
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    if not shapes or len(shapes) < len(node.inputs):
        return
    dims = list(shapes[0])
    for shape in shapes[1:]:
        dims[axis] = dims[axis] + shape[axis]
    ctx.set_shape(node.outputs[0], ir.Shape(dims))


def _reshape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Reshape of opset 1: the target is an attribute."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    target: list[int | ir.SymbolicDim] = [
        data.shape[axis] if size == 0 else size for axis, size in enumerate(_ints(node, "shape"))
    ]
    if -1 in target:
        index = target.index(-1)
        fixed = [size for size in target if isinstance(size, int)]
        known = [size for size in data.shape if isinstance(size, int)]
        whole = len(fixed) == len(target) and len(known) == data.shape.rank() and 0 not in fixed
        target[index] = prod(known) // -prod(fixed) if whole else ctx.new_symbolic_dim()
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(target), data.dtype)


def _slice(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Slice of opset 1: starts, ends and axes are attributes, every step is 1."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    starts, ends = _ints(node, "starts"), _ints(node, "ends")
    dims = list(data.shape)
    for axis, start, end in zip(_ints(node, "axes") or range(len(starts)), starts, ends, strict=True):
        size = _sliced_size(dims[axis], start, end)
        dims[axis] = ctx.new_symbolic_dim() if size is None else size
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


def _sliced_size(size: int | ir.SymbolicDim, start: int, end: int) -> int | ir.SymbolicDim | None:
    """Size of a slice of an axis; None where it depends on how large an open size is."""
    if isinstance(size, int):
        return len(range(size)[start:end])
    if start >= 0 and end >= 0:
        return _smaller(size, end) - start
    return max(end - start, 0) if start < 0 and end < 0 else None


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


def _quantized_lstm(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """X (steps, batch, features) -> Y (steps, directions, batch, hidden), and the last two states."""
    data = node.inputs[0]
    hidden = node.attributes.get_int("hidden_size", 0)
    if data is None or data.shape is None or data.shape.rank() != 3 or not hidden:
        return
    steps, batch, _ = data.shape
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    last = ir.Shape([directions, batch, hidden])
    for output, shape in zip(
        node.outputs, (ir.Shape([steps, directions, batch, hidden]), last, last), strict=False
    ):
        ctx.set_shape_and_dtype(output, shape, data.dtype or ir.DataType.FLOAT)
