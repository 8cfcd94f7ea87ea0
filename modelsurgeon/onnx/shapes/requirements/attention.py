"""Attention: widths that heads divide, and lengths of keys and values."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    Sizes,
    axes_count,
    divided_by,
    equal,
    impossible,
    least_axes,
    product,
    requires,
    spreads,
)


@requires("Attention")
def attention(op: SizedNode) -> Iterator[Requirement]:
    """Queries, keys and values as (batch, heads, length, head) or (batch, length, heads * head)."""
    shapes = op.known(0, 1, 2)
    if shapes is None:
        return
    query, key, value = shapes
    if len({len(query), len(key), len(value)}) > 1 or len(query) not in (3, 4):
        yield impossible("its queries, keys and values don't all have 3 axes, or all 4")
        return
    for sizes, name in ((key, "keys"), (value, "values")):
        yield equal(sizes[0], query[0], f"its {name} have a batch of {sizes[0]}, its queries of {query[0]}")
    yield equal(key[-2], value[-2], f"it has {key[-2]} keys and {value[-2]} values")
    if len(query) == 3:
        heads, key_heads = op.integer("q_num_heads"), op.integer("kv_num_heads")
        if heads < 1 or key_heads < 1:
            yield impossible("q_num_heads and kv_num_heads are missing")
            return
        if heads % key_heads:
            yield impossible(f"{heads} heads of queries don't share {key_heads} heads of keys")
        yield from _heads(query[2], heads, "queries")
        yield from _heads(key[2], key_heads, "keys")
        yield from _heads(value[2], key_heads, "values")
        left, right = product((query[2], key_heads)), product((key[2], heads))
        yield equal(left, right, f"its queries have {query[2]} features, its keys {key[2]}")
    else:
        yield equal(query[3], key[3], f"its queries have {query[3]} features, its keys {key[3]}")
        yield equal(key[1], value[1], f"its keys have {key[1]} heads, its values {value[1]}")
        if isinstance(key[1], int) and key[1] > 0:
            yield divided_by(
                query[1], key[1], f"{query[1]} heads of queries don't share {key[1]} heads of keys"
            )
    yield from _past_and_mask(op, query, key)


def _past_and_mask(op: SizedNode, query: Sizes, key: Sizes) -> Iterator[Requirement]:
    past, mask = op.sizes(4), op.sizes(3)
    if past is not None:
        yield axes_count(past, 4, "its past keys")
        if len(past) == 4 and len(key) == 4:
            yield equal(past[0], key[0], f"its past has a batch of {past[0]}, its keys of {key[0]}")
            yield equal(past[1], key[1], f"its past has {past[1]} heads, its keys {key[1]}")
            yield equal(past[3], key[3], f"its past has {past[3]} features, its keys {key[3]}")
    if mask is not None and op.opset < 24:
        yield least_axes(mask, 2, "its mask")
    if mask is not None and len(mask) > 1:
        text = f"its mask has {mask[-2]} rows for {query[-2]} queries"
        yield (equal if op.opset < 24 else spreads)(mask[-2], query[-2], text)
    if mask is not None and mask and not op.has(4) and op.opset < 24:
        yield equal(mask[-1], key[-2], f"its mask has {mask[-1]} columns for {key[-2]} keys")


@requires("Attention", "QAttention", domain=MICROSOFT_DOMAIN)
def packed_attention(op: SizedNode) -> Iterator[Requirement]:
    """Input (batch, length, in), one weight (in, queries + keys + values)."""
    shapes, heads = op.known(0, 1), op.integer("num_heads")
    if heads < 1:
        yield impossible(f"num_heads is {heads}")
    if shapes is None or heads < 1:
        return
    data, weight = shapes
    yield axes_count(data, 3, "its input")
    yield axes_count(weight, 2, "its weight")
    if len(data) != 3 or len(weight) != 2:
        return
    yield equal(data[2], weight[0], f"its input has {data[2]} features, its weight takes {weight[0]}")
    bias = op.sizes(2)
    if bias is not None:
        yield axes_count(bias, 1, "its bias")
        if len(bias) == 1:
            yield equal(bias[0], weight[1], f"its bias has {bias[0]} values for {weight[1]} features")
    widths = op.integers("qkv_hidden_sizes")
    if widths:
        if len(widths) != 3 or any(heads and width % heads for width in widths):
            yield impossible(f"qkv_hidden_sizes {list(widths)} can't be split into {heads} heads")
        yield equal(weight[1], sum(widths), f"its weight has {weight[1]} columns, not {sum(widths)}")
    else:
        yield divided_by(weight[1], 3, f"its weight has {weight[1]} columns, no multiple of 3")
        if heads and isinstance(weight[1], int) and weight[1] % 3 == 0:
            yield from _heads(weight[1] // 3, heads, "queries")


@requires("MultiHeadAttention", domain=MICROSOFT_DOMAIN)
def multi_head_attention(op: SizedNode) -> Iterator[Requirement]:
    """Queries (batch, length, heads * head); keys and values alike, or packed."""
    query, heads = op.sizes(), op.integer("num_heads")
    if heads < 1:
        yield impossible(f"num_heads is {heads}")
    if query is None or heads < 1:
        return
    if len(query) not in (3, 5):
        yield impossible(f"its queries have {len(query)} axes, neither 3 nor 5")
        return
    if len(query) == 5:
        yield equal(query[2], heads, f"its input has {query[2]} heads, num_heads is {heads}")
        yield equal(query[3], 3, f"its input has {query[3]} entries for queries, keys and values")
        return
    yield from _heads(query[2], heads, "queries")
    yield from _keys_and_values(op, query, heads)
    key, value = op.sizes(1), op.sizes(2)
    bias = op.sizes(3)
    if bias is not None:
        yield axes_count(bias, 1, "its bias")
        known = value is not None and len(value) == 3
        if len(bias) == 1 and (known or (key is None and value is None)):
            last = value[2] if known and value is not None else query[2]
            wanted = last + query[2] + query[2]
            yield equal(bias[0], wanted, f"its bias has {bias[0]} values, not {wanted}")


def _keys_and_values(op: SizedNode, query: Sizes, heads: int) -> Iterator[Requirement]:
    key, value = op.sizes(1), op.sizes(2)
    for sizes, name in ((key, "keys"), (value, "values")):
        if sizes is not None and len(sizes) not in (3, 4, 5):
            yield impossible(f"its {name} have {len(sizes)} axes")
    if key is not None and value is not None:
        yield equal(len(key), len(value), f"its keys have {len(key)} axes, its values {len(value)}")
    if key is not None and len(key) == 3:
        yield equal(key[0], query[0], f"its keys have a batch of {key[0]}, its queries of {query[0]}")
        yield equal(key[2], query[2], f"its keys have {key[2]} features, its queries {query[2]}")
        if value is not None and len(value) == 3:
            yield equal(value[0], query[0], f"its values have a batch of {value[0]}, not {query[0]}")
            yield equal(value[1], key[1], f"it has {key[1]} keys and {value[1]} values")
            yield from _heads(value[2], heads, "values")


@requires("GroupQueryAttention", domain=MICROSOFT_DOMAIN)
def group_query_attention(op: SizedNode) -> Iterator[Requirement]:
    """Queries (batch, length, heads * head), keys and values with kv_num_heads; or all three packed."""
    query, heads, key_heads = op.sizes(), op.integer("num_heads"), op.integer("kv_num_heads")
    if heads < 1 or key_heads < 1:
        yield impossible(f"num_heads is {heads}, kv_num_heads is {key_heads}")
        return
    if query is None:
        return
    yield axes_count(query, 3, "its queries")
    if heads % key_heads:
        yield impossible(f"{heads} heads of queries don't share {key_heads} heads of keys")
    if len(query) != 3:
        return
    key, value = op.sizes(1), op.sizes(2)
    if not op.has(1):
        yield from _heads(query[2], heads + 2 * key_heads, "queries, keys and values")
        return
    yield from _heads(query[2], heads, "queries")
    yield from _grouped_past(op, query, heads, key_heads)
    for sizes, name in ((key, "keys"), (value, "values")):
        if sizes is not None:
            yield axes_count(sizes, 3, f"its {name}")
        if sizes is not None and len(sizes) == 3:
            yield equal(sizes[0], query[0], f"its {name} have a batch of {sizes[0]}, not {query[0]}")
            left, right = product((sizes[2], heads)), product((query[2], key_heads))
            yield equal(left, right, f"its {name} have {sizes[2]} features, its queries {query[2]}")
            yield equal(sizes[1], query[1], f"it has {sizes[1]} {name} for {query[1]} queries")


def _grouped_past(op: SizedNode, query: Sizes, heads: int, key_heads: int) -> Iterator[Requirement]:
    lengths = op.sizes(5)
    if lengths is not None:
        count = product(lengths)
        yield equal(count, query[0], f"it has {count} lengths for a batch of {query[0]}")
    for index in (3, 4):
        past = op.sizes(index)
        if past is not None and len(past) == 4 and op.text("k_quant_type", "NONE") in ("NONE", ""):
            yield equal(past[0], query[0], f"its past has a batch of {past[0]}, its queries of {query[0]}")
            yield equal(past[1], key_heads, f"its past has {past[1]} heads, kv_num_heads is {key_heads}")
            left = product((past[3], heads))
            yield equal(left, query[2], f"its past has {past[3]} features in each head")
    pasts = op.known(3, 4)
    if pasts is not None:
        for left, right in zip(*pasts, strict=False):
            yield equal(left, right, f"its past keys and values have sizes {left} and {right}")


@requires("RotaryEmbedding", domain=MICROSOFT_DOMAIN)
def fused_rotary(op: SizedNode) -> Iterator[Requirement]:
    """Tables of cosines and sines with equal shapes; heads divide the width; a position for each entry."""
    tables, data, positions, heads = op.known(2, 3), op.sizes(), op.sizes(1), op.integer("num_heads")
    if data is not None and len(data) == 3 and heads:
        yield from _heads(data[2], heads, "values")
    if data is not None and len(data) == 3 and positions is not None and len(positions) == 2:
        for left, right in zip(positions, data, strict=False):
            yield equal(left, right, f"its positions have size {left} where its input has {right}")
    if data is not None and len(data) not in (3, 4):
        yield impossible(f"its input has {len(data)} axes, neither 3 nor 4")
    if positions is not None and len(positions) > 2:
        yield impossible(f"its positions have {len(positions)} axes, more than 2")
    if data is not None and tables is not None and len(tables[0]) == 2:
        yield from _table_width(op, data, tables[0][1])
    if tables is not None:
        yield axes_count(tables[0], 2, "its table of cosines")
        for left, right in zip(*tables, strict=False):
            yield equal(left, right, f"its tables have sizes {left} and {right}")


def _table_width(op: SizedNode, data: Sizes, width: Size) -> Iterator[Requirement]:
    """Half as many cosines as values in a head, or as those of them that are rotated."""
    heads, rotated = op.integer("num_heads"), op.integer("rotary_embedding_dim")
    if width * 2 == rotated or len(data) not in (3, 4) or (len(data) == 3 and not heads):
        return
    values, reached = (data[3], width * 2) if len(data) == 4 else (data[2], product((width, 2 * heads)))
    yield equal(values, reached, f"its tables of {width} values reach {reached} of {values} features")


@requires("RotaryEmbedding")
def rotary(op: SizedNode) -> Iterator[Requirement]:
    """Tables of cosines and sines with equal shapes; heads divide the width."""
    data, tables, heads = op.sizes(), op.known(1, 2), op.integer("num_heads")
    axes = 2 if op.has(3) else 3
    if tables is not None:
        for sizes in tables:
            yield axes_count(sizes, axes, "its table")
    if tables is not None and axes == 3 and data is not None and len(data) in (3, 4):
        length = data[-2]
        for sizes in tables:
            for index, wanted in ((0, data[0]), (1, length)):
                if len(sizes) == 3:
                    yield equal(sizes[index], wanted, f"its table is for {sizes[index]}, not {wanted}")
    if tables is not None:
        for left, right in zip(*tables, strict=False):
            yield equal(left, right, f"its tables have sizes {left} and {right}")
    if data is not None and len(data) == 3 and heads:
        yield from _heads(data[2], heads, "values")


def _heads(width: Size, heads: int, name: str) -> Iterator[Requirement]:
    yield divided_by(width, heads, f"{width} features of {name} can't be split into {heads} heads")
