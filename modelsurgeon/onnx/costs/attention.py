"""Attention: two batched products around a softmax, and in contrib forms the projections before them."""

from __future__ import annotations

from math import prod

from modelsurgeon.cost import Cost, Number
from modelsurgeon.onnx.costs.registry import MICROSOFT, Operation, Shape, counts

SOFTMAX = 6  # scale, maximum, difference, exponential, sum, quotient: for each pair of query and key


def _attend(query: Number, output: Number, keys: Number, pairs: Number) -> Cost:
    """Every element of the queries meets every key, every element of the output every value.

    query, output: their elements. keys: number of keys. pairs: scores, over all heads.
    Masked pairs count, as they are computed.
    """
    return Cost(macs=(query + output) * keys, other=SOFTMAX * pairs)


def _length(shape: Shape) -> Number:
    """Number of positions in (batch, length, width) or (batch, heads, length, size)."""
    return shape[1] if len(shape) == 3 else shape[2]


@counts("Attention")
def attention(op: Operation) -> Cost:
    """Q, K, V of (batch, length, heads * size) or (batch, heads, length, size), and optional past keys."""
    query = op.shape()
    keys = _length(op.shape(1)) + (op.shape(4)[2] if op.has(4) else 0)
    heads = query[1] if len(query) == 4 else op.integer("q_num_heads")
    return _attend(prod(query), op.elements, keys, query[0] * heads * _length(query) * keys)


@counts("Attention", domain=MICROSOFT)
def projected(op: Operation) -> Cost:
    """Input (batch, length, width), weight (width, q + k + v), past (2, batch, heads, length, size)."""
    return _projected(op, past=4)


@counts("QAttention", domain=MICROSOFT)
def quantised(op: Operation) -> Cost:
    """As Attention, with an 8-bit input and weight."""
    return _projected(op, past=8)


def _projected(op: Operation, *, past: int) -> Cost:
    batch, length, width = op.shape()
    columns = op.shape(1)[1]
    keys = length + (op.shape(past)[3] if op.has(past) else 0)
    query = (op.integers("qkv_hidden_sizes") or (columns // 3,))[0]
    scores = _attend(
        batch * length * query, op.elements, keys, batch * op.integer("num_heads") * length * keys
    )
    bias = batch * length * columns if op.has(2) else 0
    return scores + Cost(macs=batch * length * width * columns, bias_adds=bias)


@counts("MultiHeadAttention", domain=MICROSOFT)
def multi_head(op: Operation) -> Cost:
    """Query (batch, length, width), keys and values alike or (batch, heads, keys, size)."""
    query = op.shape()
    keys = _length(op.shape(1)) + (op.shape(6)[2] if op.has(6) else 0)
    bias = sum(prod(op.shape(index)) for index in range(3) if op.has(index)) if op.has(3) else 0
    scores = _attend(
        prod(query), op.elements, keys, query[0] * op.integer("num_heads") * _length(query) * keys
    )
    return scores + Cost(bias_adds=bias)


@counts("GroupQueryAttention", domain=MICROSOFT)
def group_query(op: Operation) -> Cost:
    """Query (batch, length, heads * size), packed or not, and all keys of the present cache (output 1)."""
    out = op.out()
    keys = op.out(1)[2]
    pairs = out[0] * op.integer("num_heads") * out[1] * keys
    return _attend(prod(out), prod(out), keys, pairs)
