"""Shape rules of onnxruntime's operators that select, generate or transform data, and of those for tokens."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.rules.parts import integers, known_inputs, optional_input, scalar_content
from modelsurgeon.onnx.shapes.rules.registration import newest_rule, register_instead, register_missing


def register() -> None:
    """Add the rules to the registry."""
    for op, rule in (
        ("GatherBlockQuantized", _gather_blocks),
        ("TorchEmbedding", _embedding),
        ("ExpandDims", _new_axis),
        ("CDist", _distances),
        ("IsAllFinite", _is_finite),
        ("MurmurHash3", _hash),
        ("NGramRepeatBlock", _scores),
        ("QuantizeWithOrder", _ordered),
        ("DequantizeWithOrder", _ordered),
        ("Rfft", _real_transform),
        ("Irfft", _inverse_real_transform),
        ("Unique", _unique),
        ("Tokenizer", _tokenizer),
        ("DynamicTimeWarping", _warping_path),
        ("BifurcationDetector", _bifurcation),
        ("BeamSearch", _generated),
        ("WhisperBeamSearch", _generated),
        ("GreedySearch", _generated),
        ("Sampling", _generated),
    ):
        register_missing(MICROSOFT_DOMAIN, op, rule)
    # The library takes the rule of the standard operator, whose step can't be left out.
    register_instead(MICROSOFT_DOMAIN, "Range", _range)
    register_missing("", "Crop", _crop)
    register_missing("", "DynamicSlice", newest_rule("Slice"))


def _crop(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Maps without their border (left, top, right, bottom), or of the size `scale` behind it."""
    (data,) = known_inputs(node, 1)
    if data.shape is None:
        return
    left, top, right, bottom = integers(node, "border")
    *first, height, width = data.shape
    inner = [height - top - bottom, width - left - right]
    shape = ir.Shape([*first, *(integers(node, "scale") or inner)])
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _gather_blocks(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Gather of numbers in blocks, in the type of the scales; bytes hold several numbers of the last axis."""
    data, indices, scales = known_inputs(node, 3)
    if data.shape is not None and indices.shape is not None:
        dims = list(data.shape)
        if data.dtype == ir.DataType.UINT8:
            dims[-1] = dims[-1] * (8 // node.attributes.get_int("bits", 4))
        axis = node.attributes.get_int("gather_axis", 0) % len(dims)
        dims[axis : axis + 1] = indices.shape.dims
        ctx.set_shape(node.outputs[0], ir.Shape(dims))
    if scales.dtype is not None:
        ctx.set_dtype(node.outputs[0], scales.dtype)


def _embedding(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A row of the weight for each index."""
    weight, indices = known_inputs(node, 2)
    if weight.shape is not None and indices.shape is not None:
        shape = ir.Shape([*indices.shape.dims, weight.shape[1]])
        ctx.set_shape_and_dtype(node.outputs[0], shape, weight.dtype)


def _new_axis(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A new axis of size 1, at the place that an input gives."""
    data, place = known_inputs(node, 2)
    axis = scalar_content(ctx, place)
    if data.shape is not None and isinstance(axis, int):
        dims = list(data.shape)
        dims.insert(axis if axis >= 0 else axis + len(dims) + 1, 1)
        ctx.set_shape(node.outputs[0], ir.Shape(dims))
    if data.dtype is not None:
        ctx.set_dtype(node.outputs[0], data.dtype)


def _distances(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A distance for each row of the one operand and each of the other."""
    rows, columns = known_inputs(node, 2)
    if rows.shape is not None and columns.shape is not None:
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([rows.shape[0], columns.shape[0]]), rows.dtype)


def _is_finite(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """One truth value."""
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([]), ir.DataType.BOOL)


def _hash(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A hash for each element, without a sign unless `positive` is 0."""
    (data,) = known_inputs(node, 1)
    dtype = ir.DataType.UINT32 if node.attributes.get_int("positive", 1) else ir.DataType.INT32
    if data.shape is not None:
        ctx.set_shape(node.outputs[0], data.shape)
    ctx.set_dtype(node.outputs[0], dtype)


def _scores(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The second input, in which entries are replaced."""
    _, scores = known_inputs(node, 2)
    if scores.shape is not None:
        ctx.set_shape_and_dtype(node.outputs[0], scores.shape, scores.dtype)


def _ordered(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The input in another layout and type."""
    (data,) = known_inputs(node, 1)
    to = node.attributes.get_int("to", int(ir.DataType.FLOAT))
    dtype = ir.DataType.INT8 if node.op_type == "QuantizeWithOrder" else ir.DataType(to)
    if data.shape is not None:
        ctx.set_shape(node.outputs[0], data.shape)
    ctx.set_dtype(node.outputs[0], dtype)


def _range(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Range, whose step may be left out: it is 1."""
    start, limit = known_inputs(node, 2)
    if optional_input(node, 2) is not None:
        newest_rule("Range")(ctx, node)
        return
    step = ir.Value(
        name="step",
        shape=ir.Shape([]),
        type=ir.TensorType(start.dtype or ir.DataType.INT64),
        const_value=ir.tensor(np.ones((), (start.dtype or ir.DataType.INT64).numpy())),
    )
    whole = ir.node("Range", [start, limit, step])
    newest_rule("Range")(ctx, whole)
    ctx.set_shape_and_dtype(node.outputs[0], whole.outputs[0].shape, start.dtype)


def _real_transform(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Signals (..., n) -> (..., n // 2 + 1, 2), or (..., n, 2) where `onesided` is 0."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        *others, points = data.shape
        kept = points // 2 + 1 if node.attributes.get_int("onesided", 1) else points
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*others, kept, 2]), data.dtype)


def _inverse_real_transform(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., n // 2 + 1, 2) -> signals (..., n) of an even n; (..., n, 2) where `onesided` is 0."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        *others, kept, _ = data.shape
        points = 2 * (kept - 1) if node.attributes.get_int("onesided", 1) else kept
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*others, points]), data.dtype)


def _unique(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The different elements, the index among them of each element, and how often each occurs."""
    (data,) = known_inputs(node, 1)
    found = ir.Shape([ctx.new_symbolic_dim()])
    if data.dtype is not None:
        ctx.set_shape_and_dtype(node.outputs[0], found, data.dtype)
    for output, shape in zip(node.outputs[1:], (data.shape, found), strict=False):
        if shape is not None and output.name:
            ctx.set_shape_and_dtype(output, shape, ir.DataType.INT64)


def _tokenizer(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Texts -> as many tokens of each as the longest has."""
    (texts,) = known_inputs(node, 1)
    if texts.shape is not None:
        shape = ir.Shape([*texts.shape, ctx.new_symbolic_dim()])
        ctx.set_shape_and_dtype(node.outputs[0], shape, ir.DataType.STRING)


def _warping_path(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Rows and columns of a path of unknown length."""
    shape = ir.Shape([2, ctx.new_symbolic_dim()])
    ctx.set_shape_and_dtype(node.outputs[0], shape, ir.DataType.INT32)


def _bifurcation(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Tokens of unknown number, and an index."""
    shapes = (ir.Shape([ctx.new_symbolic_dim()]), ir.Shape([]))
    for output, shape in zip(node.outputs, shapes, strict=False):
        ctx.set_shape_and_dtype(output, shape, ir.DataType.INT64)


def _generated(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Sequences of at most `max_length` tokens; where beams are searched, several for each input."""
    (tokens,) = known_inputs(node, 1)
    if tokens.shape is None:
        return
    batch = tokens.shape[0]
    length = scalar_content(ctx, optional_input(node, 1))
    dims = [batch, ctx.new_symbolic_dim() if length is None else length]
    if node.op_type.endswith("BeamSearch"):
        number = scalar_content(ctx, optional_input(node, 4)) or ctx.new_symbolic_dim()
        dims.insert(1, number)
        if len(node.outputs) > 1 and node.outputs[1].name:
            ctx.set_shape_and_dtype(node.outputs[1], ir.Shape([batch, number]), ir.DataType.FLOAT)
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), ir.DataType.INT32)
