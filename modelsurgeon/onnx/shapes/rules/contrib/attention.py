"""Shape rules of onnxruntime's attention operators: widths of values, and caches of keys and values.

The library's rules take the width of the input for that of the queries, and let every cache grow by the new
keys, also one that is a buffer for many more.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import OpUsageError, ShapeInferenceContext

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.rules.parts import integers, known_inputs, optional_input, scalar_content
from modelsurgeon.onnx.shapes.rules.registration import register_instead, register_missing
from modelsurgeon.onnx.shapes.rules.sizes import Size, larger


def register() -> None:
    """Add the rules to the registry."""
    for op in ("Attention", "QAttention"):
        register_instead(MICROSOFT_DOMAIN, op, _with_projections)
    register_missing(MICROSOFT_DOMAIN, "DecoderMaskedSelfAttention", _with_projections)
    register_instead(MICROSOFT_DOMAIN, "MultiHeadAttention", _multi_head)
    register_instead(MICROSOFT_DOMAIN, "DecoderMaskedMultiHeadAttention", _multi_head)
    register_instead(MICROSOFT_DOMAIN, "PackedMultiHeadAttention", _packed_multi_head)
    register_instead(MICROSOFT_DOMAIN, "GroupQueryAttention", _grouped)
    register_instead(MICROSOFT_DOMAIN, "SparseAttention", _grouped)
    register_missing(MICROSOFT_DOMAIN, "RelativePositionBias", _relative_bias)
    register_missing(MICROSOFT_DOMAIN, "GemmaRotaryEmbedding", _gemma_rotary)


def _set(
    ctx: ShapeInferenceContext, node: ir.Node, index: int, dims: list[Size] | None, dtype: ir.DataType | None
) -> None:
    """Set the shape and the type of an output if it is used and they are known."""
    if index >= len(node.outputs) or not node.outputs[index].name:
        return
    if dims is not None:
        ctx.set_shape(node.outputs[index], ir.Shape(dims))
    if dtype is not None:
        ctx.set_dtype(node.outputs[index], dtype)


def _dims(value: ir.Value | None) -> tuple[Size, ...] | None:
    """The sizes of a value, None where unknown."""
    return None if value is None or value.shape is None else tuple(value.shape.dims)


def _heads(node: ir.Node, name: str = "num_heads") -> int:
    """A number of heads; raises OpUsageError where it isn't positive."""
    heads = node.attributes.get_int(name, 0)
    if heads <= 0:
        raise OpUsageError(node, f"{name} is {heads}: it must be positive")
    return heads


def _shares_buffer(node: ir.Node) -> bool:
    """Whether past and present are one buffer of fixed length."""
    return bool(node.attributes.get_int("past_present_share_buffer", 0))


def _with_projections(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Input (batch, length, width), weight (width, q + k + v), past (2, batch, heads, length, size)."""
    data, weight = known_inputs(node, 2)
    is_quantized = node.op_type == "QAttention"
    bias, past = optional_input(node, 2), optional_input(node, 8 if is_quantized else 4)
    dtype = data.dtype
    if is_quantized:
        scale = optional_input(node, 3)
        dtype = (scale and scale.dtype) or ir.DataType.FLOAT
    dims, columns = _dims(data), (_dims(weight) or _dims(bias) or (None,))[-1]
    if dims is None or len(dims) != 3 or columns is None:
        return
    batch, length, _ = dims
    heads = _heads(node)
    widths: list[Size] = list(integers(node, "qkv_hidden_sizes")) or [columns // 3] * 3
    _set(ctx, node, 0, [batch, length, widths[2]], dtype)
    cached = _dims(past)
    keys = length
    if cached is not None and len(cached) == 5:
        keys = cached[3] if _shares_buffer(node) else cached[3] + length
    elif past is not None:
        return
    _set(ctx, node, 1, [2, batch, heads, keys, widths[2] // heads], dtype)


def _multi_head(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Query (batch, length, width), keys and values alike, with a head axis, or packed; with a cache or not.

    Packed are query, keys and values as (batch, length, heads, 3, size), or keys and values as
    (batch, keys, heads, 2, size). Past keys are (batch, heads, past, size).
    """
    (query,) = known_inputs(node, 1)
    is_decoder = node.op_type.startswith("Decoder")
    key, value = optional_input(node, 1), optional_input(node, 2)
    first = 5 if is_decoder else 6
    past_key, past_value = optional_input(node, first), optional_input(node, first + 1)
    dims, heads = _dims(query), _heads(node)
    if dims is None or len(dims) not in (3, 5):
        return
    batch, length = dims[:2]
    width = heads * dims[4] if len(dims) == 5 else dims[2]
    keys, value_width = length, width
    key_dims, value_dims = _dims(key), _dims(value)
    if key is None and is_decoder:  # query, keys and values side by side, of one width
        value_width = width = width // 3
    elif key is not None:
        if key_dims is None or (value is not None and value_dims is None):
            return
        keys = key_dims[2] if len(key_dims) == 4 else key_dims[1]
        if value_dims is not None:
            value_width = heads * value_dims[3] if len(value_dims) == 4 else value_dims[2]
    _set(ctx, node, 0, [batch, length, value_width], query.dtype)
    if past_key is not None:
        past = _dims(past_key)
        if past is None or len(past) != 4:
            return
        is_buffer = _shares_buffer(node) if is_decoder else optional_input(node, 8) is not None
        keys = past[2] if is_buffer else past[2] + keys
    _set(ctx, node, 1, [batch, heads, keys, width // heads], (past_key or query).dtype)
    _set(ctx, node, 2, [batch, heads, keys, value_width // heads], (past_value or query).dtype)
    _set(ctx, node, 3, [batch, heads, length, keys], None)


def _packed_multi_head(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Query (tokens, width), or (tokens, heads, 3, size) with keys and values in it."""
    (query,) = known_inputs(node, 1)
    dims, value_dims = _dims(query), _dims(optional_input(node, 2))
    if value_dims is not None and len(value_dims) == 2:
        dims = value_dims
    elif dims is not None and len(dims) == 4:
        dims = (dims[0], dims[1] * dims[3])
    _set(ctx, node, 0, None if dims is None else list(dims), query.dtype)


def _grouped(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Query (batch, length, heads * size), or packed with keys and values; past (batch, heads, past, size).

    The present cache is as long as the past one, or as the whole sequence if that is longer: the content of
    `total_sequence_length`. A window or a sparse cache keeps its length. Where that content isn't known, the
    length isn't either.
    """
    (query,) = known_inputs(node, 1)
    is_sparse = node.op_type == "SparseAttention"
    heads, kv_heads = _heads(node), _heads(node, "kv_num_heads")
    dims, past_key = _dims(query), optional_input(node, 3)
    past = _dims(past_key)
    if dims is None or len(dims) != 3:
        return
    batch, length, width = dims
    size = width // (heads if optional_input(node, 2) is not None else heads + 2 * kv_heads)
    _set(ctx, node, 0, [batch, length, heads * size], query.dtype)
    if past_key is not None and past is None:
        return
    total = scalar_content(ctx, optional_input(node, 7 if is_sparse else 6))
    if past is not None and (is_sparse or bool(node.attributes.get_int("sliding_window_cache", 0))):
        keys: Size = past[2]
    elif past is None or past[2] == 0:
        new = _dims(optional_input(node, 1))
        keys = length if new is None or len(new) != 3 else new[1]
    elif total is None:
        keys = ctx.new_symbolic_dim()
    else:
        keys = larger(past[2], total)
    packed_size = size if past is None else past[3]
    for index in (1, 2):
        _set(ctx, node, index, [batch, kv_heads, keys, packed_size], (past_key or query).dtype)
    if not is_sparse:
        scores = keys if past is None else (total if total is not None else ctx.new_symbolic_dim())
        _set(ctx, node, 3, [batch, heads, length, scores], query.dtype)


def _relative_bias(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A table (buckets, heads) and two lengths -> (1, heads, queries, keys)."""
    table, queries, keys = known_inputs(node, 3)
    if table.shape is not None:
        lengths = [scalar_content(ctx, length) for length in (queries, keys)]
        dims = [ctx.new_symbolic_dim() if length is None else length for length in lengths]
        _set(ctx, node, 0, [1, table.shape[1], *dims], table.dtype)


def _gemma_rotary(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Queries and keys (batch, heads, length, size), rotated."""
    _, query, _, key, _ = known_inputs(node, 5)
    for index, value in enumerate((query, key)):
        dims = _dims(value)
        _set(ctx, node, index, None if dims is None else list(dims), value.dtype)
