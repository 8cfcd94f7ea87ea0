"""Attention: two batched matrix products around a softmax; contrib forms include projections before it."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import Shape, ShapedNode, Uncounted, counts

SOFTMAX_STEPS = 6  # scale, maximum, difference, exponential, sum, quotient: for each pair of query and key


def _attention_cost(query: Number, output: Number, keys: Number, pairs: Number) -> Cost:
    """Every query element is multiplied with every key, every output element with every value.

    query, output: number of elements. keys: number of keys. pairs: number of scores, over all heads.
    Masked pairs count, as they are computed.
    """
    return Cost(macs=(query + output) * keys, other=SOFTMAX_STEPS * pairs)


def _length(shape: Shape) -> Number:
    """Number of positions in (batch, length, width) or (batch, heads, length, size)."""
    return shape[1] if len(shape) == 3 else shape[2]


@counts("Attention")
def attention(op: ShapedNode) -> Cost:
    """Q, K, V of (batch, length, heads * size) or (batch, heads, length, size), optional past keys."""
    query = op.shape()
    keys = _length(op.shape(1)) + (op.shape(4)[2] if op.has(4) else 0)
    heads = query[1] if len(query) == 4 else op.integer("q_num_heads")
    return _attention_cost(prod(query), op.elements, keys, query[0] * heads * _length(query) * keys)


@counts("Attention", domain=MICROSOFT_DOMAIN)
def attention_with_projections(op: ShapedNode) -> Cost:
    """Input (batch, length, width), weight (width, q + k + v), past (2, batch, heads, length, size)."""
    return _projected_attention(op, past=4)


@counts("QAttention", domain=MICROSOFT_DOMAIN)
def quantized_attention(op: ShapedNode) -> Cost:
    """As Attention, with an 8-bit input and weight."""
    return _projected_attention(op, past=8)


def _projected_attention(op: ShapedNode, *, past: int) -> Cost:
    batch, length, width = op.shape()
    columns = op.shape(1)[1]
    keys = length + (op.shape(past)[3] if op.has(past) else 0)
    query = (op.integers("qkv_hidden_sizes") or (columns // 3,))[0]
    scores = _attention_cost(
        batch * length * query, op.elements, keys, batch * op.integer("num_heads") * length * keys
    )
    bias = batch * length * columns if op.has(2) else 0
    return scores + Cost(macs=batch * length * width * columns, bias_adds=bias)


@counts("PackedAttention", domain=MICROSOFT_DOMAIN)
def packed_attention(op: ShapedNode) -> Cost:
    """Input (tokens, width) of sequences without padding; their lengths are the rows of input 3."""
    tokens, width = op.shape()
    columns = op.shape(1)[1]
    query = (op.integers("qkv_hidden_sizes") or (columns // 3,))[0]
    scores = _packed_attention(op, tokens * query)
    return scores + Cost(macs=tokens * width * columns, bias_adds=tokens * columns if op.has(2) else 0)


@counts("PackedMultiHeadAttention", domain=MICROSOFT_DOMAIN)
def packed_multi_head(op: ShapedNode) -> Cost:
    """Query (tokens, width), or (tokens, heads, 3, size) with keys and values in it."""
    bias = op.elements + 2 * op.elements if op.has(3) else 0
    return _packed_attention(op, op.elements) + Cost(bias_adds=bias)


def _packed_attention(op: ShapedNode, query: Number) -> Cost:
    """Every sequence counts at full length: the width of the table of token offsets, (batch, length)."""
    batch, length = op.shape(4 - (op.node.op_type == "PackedAttention"))
    pairs = batch * op.integer("num_heads") * length * length
    return _attention_cost(query, op.elements, length, pairs)


@counts("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain=MICROSOFT_DOMAIN)
def multi_head(op: ShapedNode) -> Cost:
    """Query (batch, length, width); keys and values alike, or (batch, heads, keys, size), or packed with it.

    Packed are query, keys and values as (batch, length, heads, 3, size), or keys and values as
    (batch, keys, heads, 2, size). Past keys are (batch, heads, past, size).
    """
    is_decoder = op.node.op_type.startswith("Decoder")
    past, bias = (5, 10) if is_decoder else (6, 3)
    batch, length = op.shape()[:2]
    query = prod(op.shape()) // 3 if len(op.shape()) == 5 else prod(op.shape())
    keys = (op.shape(1)[1] if len(op.shape(1)) != 4 else op.shape(1)[2]) if op.has(1) else length
    if op.has(past):
        is_buffer = op.integer("past_present_share_buffer") if is_decoder else op.has(8)
        keys = op.shape(past)[2] + (0 if is_buffer else keys)
    scores = _attention_cost(query, op.elements, keys, batch * op.integer("num_heads") * length * keys)
    return scores + Cost(bias_adds=_biased_elements(op, query) if op.has(bias) else 0)


def _biased_elements(op: ShapedNode, query: Number) -> Number:
    """Elements to which a bias of (query + keys + values) is added; keys with a head axis have it already."""
    if len(op.shape()) == 5:
        return 3 * query
    without_heads = (prod(op.shape(index)) for index in (1, 2) if op.has(index) and len(op.shape(index)) != 4)
    return query + sum(without_heads)


@counts("GroupQueryAttention", "SparseAttention", domain=MICROSOFT_DOMAIN)
def group_query(op: ShapedNode) -> Cost | Uncounted:
    """Query (batch, length, heads * size), packed with keys and values or not, and a cache of keys.

    Every query is multiplied with the keys of the whole sequence, also with those that a block mask leaves
    out. Their number is the content of an input; where it isn't constant, it is the length of the present
    cache (output 1), which may be a buffer for more. Without a cache there are only the new keys.
    """
    out = op.out()
    total = op.constant(7 if op.node.op_type == "SparseAttention" else 6)
    if total:
        keys: Number = total[0]
    elif op.knows_out(1):
        keys = op.out(1)[2]
    elif op.has(3):
        return Uncounted(
            reason="total_sequence_length, the number of keys, is only known when the model runs"
        )
    else:
        keys = op.shape(1)[1] if op.has(1) else op.shape()[1]
    pairs = out[0] * op.integer("num_heads") * out[1] * keys
    return _attention_cost(prod(out), prod(out), keys, pairs)


@counts("FlexAttention", domain="ai.onnx.preview")
def flex_attention(op: ShapedNode) -> Cost:
    """Q, K, V of (batch, heads, length, size); graphs that modify the scores don't count."""
    query, keys = op.shape(), op.shape(1)[2]
    return _attention_cost(prod(query), op.elements, keys, prod(query[:3]) * keys)


# Products for each element of the state and token: update and read-out; delta rules also read before the
# update.
PRODUCTS_PER_STATE_ELEMENT = {"linear": 2, "gated": 2, "delta": 3, "gated_delta": 3}


@counts("LinearAttention")
@counts("LinearAttention", domain=MICROSOFT_DOMAIN)
def linear_attention(op: ShapedNode) -> Cost | Uncounted:
    """Every token updates a state of (key size, value size) for each head, and reads it.

    Query (batch, length, heads * size). The decay is one operation for each element of the state.
    """
    rule = op.text("update_rule", "gated_delta")
    if rule not in PRODUCTS_PER_STATE_ELEMENT:
        return Uncounted(reason=f"the update rule {rule!r} is not understood")
    batch, length = op.shape()[:2]
    state = op.integer("kv_num_heads") * _head_size(op, 1) * _head_size(op, 2)
    read = op.integer("q_num_heads") * _head_size(op, 1) * _head_size(op, 2)
    macs = batch * length * ((PRODUCTS_PER_STATE_ELEMENT[rule] - 1) * state + read)
    return Cost(macs=macs, other=batch * length * state if rule.startswith("gated") else 0)


def _head_size(op: ShapedNode, index: int) -> Number:
    """Size of a head in packed keys or values."""
    return op.shape(index)[-1] // op.integer("kv_num_heads")


@counts("LinearAttentionGate", domain=MICROSOFT_DOMAIN)
def linear_attention_gate(op: ShapedNode) -> Cost:
    """A bias, a non-linearity and a scale for each decay; a non-linearity for each update rate."""
    return Cost(other=3 * op.elements + (prod(op.out(1)) if op.knows_out(1) else 0))


@counts("HyperConnectionPreMix", domain=MICROSOFT_DOMAIN)
def mix_before(op: ShapedNode) -> Cost:
    """A product and a sum for each element of the streams."""
    return Cost(other=2 * op.elements_in)


@counts("HyperConnectionPostMix", domain=MICROSOFT_DOMAIN)
def mix_after(op: ShapedNode) -> Cost:
    """An optional product of a matrix (streams, streams) with the streams; a gated sum for each element."""
    macs = op.elements * op.shape(3)[-1] if op.has(3) else 0
    return Cost(macs=macs, other=2 * op.elements)
