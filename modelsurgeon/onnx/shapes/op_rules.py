"""Shape rules that onnx_shape_inference doesn't bring: operators of old opsets, and a few contrib ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import cast

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.onnx.graph.constant_folding import small_constant

Rule = Callable[[ShapeInferenceContext, ir.Node], None]

MICROSOFT = "com.microsoft"
# The operands are stretched to one shape.
BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)
FAR_END = 10**8  # an end this far away means the end of the axis

# Operators that a later rule serves as it is: what changed between the versions is no shape.
SAME_SINCE = ("Dropout", "GRU", "Gemm", "GroupNormalization", "LSTM", "RNN", "Split")
# Before opset 7 the second operand was stretched to the first one's shape, and n-ary operands were equal.
LIKE_FIRST = (
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
# Contrib operators whose output looks like their input.
SAME_SHAPE = (
    *("BiasDropout", "BiasSoftmax", "BitmaskBiasDropout", "BitmaskDropout", "ComplexMul", "ComplexMulConj"),
    *("Inverse", "MulInteger"),
)
# Contrib operators whose last axis has the size of an attribute, by output.
WIDTH_ATTRIBUTES = {"MatMulBnb4": ("N",), "MatMulNBitsMlp": ("N",), "MatMulNBitsQkv": ("Nq", "Nkv", "Nkv")}


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once, and only where it has none."""
    registry.collect()
    for op in LIKE_FIRST:
        _add("", op, _like_first)
    for op in SAME_SINCE:
        _add("", op, _oldest(op))
    for op, own in (("Concat", _concat), ("Reshape", _reshape), ("Slice", _slice), ("TopK", _top_k)):
        _add("", op, own)
    for op, standard in SAME_RULE_AS.items():
        _add(MICROSOFT, op, registry.get(MICROSOFT, standard, version=1) or _newest(standard))
    for op in SAME_SHAPE:
        _add(MICROSOFT, op, _like_first)
    for op in WIDTH_ATTRIBUTES:
        _add(MICROSOFT, op, _wide)
    for op in ("NhwcConv", "NhwcFusedConv"):
        _add(MICROSOFT, op, _channels_last)
    _add(MICROSOFT, "MatMulIntegerToFloat", _integer_to_float)
    _add(MICROSOFT, "DynamicQuantizeLSTM", _quantized_lstm)
    for op in BROADCASTING:
        _after(op, _stretch)
    for op in ("AveragePool", "LpPool", "MaxPool"):
        _after(op, _drop_window)
    _after("Slice", _clamp)
    _after("Split", _unless_told)
    _after("Squeeze", _unless_told)


def _add(domain: str, op: str, rule: Rule) -> None:
    if registry.get(domain, op, version=1) is None:
        registry.register(domain, op, since_version=1)(rule)


def _after(op: str, correct: Rule) -> None:
    """Put a correction behind every version of a rule that is there."""
    for version in registry.version_boundaries("", op):
        registry.register("", op, since_version=version)(_both(_rule(op, version), correct))


def _both(first: Rule, second: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        first(ctx, node)
        second(ctx, node)

    return rule


def _unless_told(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Split and Squeeze by sizes or axes that are only known at run time have no known result."""
    told = node.inputs[1] if len(node.inputs) > 1 else None
    if told is not None and ctx.get_symbolic_value(told) is None:
        for output in node.outputs:
            output.shape = None


def _stretch(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Of two open sizes on one axis the larger one stays: they are equal, or one of them is 1."""
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
    """The largest of several open sizes; those that are known are 1.

    Two sizes in the same symbols are the same one, worked out in two ways: the shorter formula is as good.
    """
    found = list(dict.fromkeys(size for size in sizes if isinstance(size, ir.SymbolicDim)))
    if any(size.value is None for size in found):
        return ir.SymbolicDim(None)
    if len({size.free_symbols() for size in found}) == 1:
        return min(found, key=lambda size: len(str(size)))
    return ir.SymbolicDim(sympy.Max(*(size._expr for size in found), evaluate=False))


def _drop_window(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Where sizes are rounded up, a last window that would begin in the padding at the end is left out."""
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


def _clamp(_: ShapeInferenceContext, node: ir.Node) -> None:
    """A slice of an open axis is no longer than that axis, be its end ever so far."""
    data, result = node.inputs[0], node.outputs[0]
    if data is None or data.shape is None or result.shape is None:
        return
    starts, ends, axes, steps = (
        small_constant(node.inputs[place]) if place < len(node.inputs) else None for place in (1, 2, 3, 4)
    )
    if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
        return
    dims = list(result.shape)
    places = range(len(starts)) if axes is None else axes.tolist()
    for axis, start, end in zip(places, starts.tolist(), ends.tolist(), strict=True):
        size = data.shape[axis]
        if isinstance(size, ir.SymbolicDim) and start >= 0 and end >= 0:
            dims[axis] = _until(size, end) - start
    result.shape = ir.Shape(dims)


def _until(size: ir.SymbolicDim, end: int) -> int | ir.SymbolicDim:
    """The lesser of an open size and an end."""
    return size if end >= FAR_END else ir.SymbolicDim(f"Min({end}, {size})").evaluate({})


def _rule(op: str, version: int) -> Rule:
    return cast(Rule, registry.get("", op, version=version))


def _oldest(op: str) -> Rule:
    return _rule(op, registry.version_boundaries("", op)[0])


def _newest(op: str) -> Rule:
    return _rule(op, registry.version_boundaries("", op)[-1])


def _integer_to_float(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """MatMul of two integer tensors whose result is scaled: its type is that of the scale."""
    scale = node.inputs[2] if len(node.inputs) > 2 else None
    ctx.set_dtype(node.outputs[0], (scale and scale.dtype) or ir.DataType.FLOAT)
    _newest("MatMul")(ctx, node)


def _like_first(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    first = node.inputs[0] if node.inputs else None
    if first is not None:
        dtype = ir.DataType.BOOL if node.op_type in BOOLEAN_RESULTS else first.dtype
        ctx.set_shape_and_dtype(node.outputs[0], first.shape, dtype)


def _wide(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., k) -> (..., size of an attribute), for each output that has one."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    for output, name in zip(node.outputs, WIDTH_ATTRIBUTES[node.op_type], strict=False):
        dims = [*data.shape.dims[:-1], node.attributes.get_int(name, 0)]
        ctx.set_shape_and_dtype(output, ir.Shape(dims), data.dtype or ir.DataType.FLOAT)


def _channels_last(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """X (batch, *spatial, channels) and a weight (out, in / groups, *kernel), as in Conv."""
    data, weight = node.inputs[:2]
    if data is None or data.shape is None or weight is None or weight.shape is None:
        return
    batch, *spatial, _ = data.shape
    many = len(spatial)
    strides, dilations = (_ints(node, name) or [1] * many for name in ("strides", "dilations"))
    pads = _ints(node, "pads") or [0] * 2 * many
    kernel = _ints(node, "kernel_shape") or list(weight.shape)[2:]
    same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    sizes = [
        -(-size // stride) if same else (size + begin + end - dilation * (taps - 1) - 1) // stride + 1
        for size, stride, dilation, taps, begin, end in zip(
            spatial, strides, dilations, kernel, pads[:many], pads[many:], strict=True
        )
    ]
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([batch, *sizes, weight.shape[0]]), data.dtype)


def _ints(node: ir.Node, name: str) -> list[int]:
    attr = node.attributes.get(name)
    return list(attr.as_ints()) if attr is not None else []


def _concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Concat of opset 1: the axis is 1 where none is told."""
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
        place = target.index(-1)
        fixed = [size for size in target if isinstance(size, int)]
        have = [size for size in data.shape if isinstance(size, int)]
        whole = len(fixed) == len(target) and len(have) == data.shape.rank() and 0 not in fixed
        target[place] = prod(have) // -prod(fixed) if whole else ctx.new_symbolic_dim()
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(target), data.dtype)


def _slice(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Slice of opset 1: starts, ends and axes are attributes, every step is 1."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    starts, ends = _ints(node, "starts"), _ints(node, "ends")
    dims = list(data.shape)
    for axis, start, end in zip(_ints(node, "axes") or range(len(starts)), starts, ends, strict=True):
        left = _cut(dims[axis], start, end)
        dims[axis] = ctx.new_symbolic_dim() if left is None else left
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


def _cut(size: int | ir.SymbolicDim, start: int, end: int) -> int | ir.SymbolicDim | None:
    """What is left of an axis; None where it depends on how large an open size is."""
    if isinstance(size, int):
        return len(range(size)[start:end])
    if start >= 0 and end >= 0:
        return _until(size, end) - start
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
