"""Attention with its projections, masks, caches and packings, and what belongs to it."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.onnx.shapes.rules.contrib_cases.case import (
    SCALE,
    ZERO,
    Case,
    case,
    f,
    fixed,
    i32,
    i64,
    u8,
)

SIZES = (2, 3, 4, 8, 5, 32)  # batch, length, heads, size of a head, past, width


def projected() -> list[Case]:
    """Attention with its projections."""
    found: list[Case] = []
    b, s, h, d, past, w = SIZES
    for qkv, with_past, with_bias, outs in product((None, (w, w, 16)), (False, True), (False, True), (1, 2)):
        if with_past and (qkv or with_bias):
            continue
        columns = sum(qkv) if qkv else 3 * w
        attributes = {"qkv_hidden_sizes": list(qkv)} if qkv else {}
        if qkv and outs == 2:
            continue
        keys = s + (past if with_past else 0)
        scores = b * s * w * keys + b * s * (16 if qkv else w) * keys
        found.append(
            case(
                "Attention",
                f(b, s, 10),
                fixed(f(10, columns)),
                fixed(f(columns)),
                None,
                f(2, b, h, past, d) if with_past else None,
                f(b, h, s, keys) if with_bias else None,
                outputs=outs if not with_past else 2,
                num_heads=h,
                macs=b * s * 10 * columns + scores,
                **attributes,
            )
        )
    found.append(
        case(
            "Attention",
            f(b, s, 10),
            fixed(f(10, 3 * w)),
            fixed(f(3 * w)),
            i32([3, 3]),
            num_heads=h,
            unidirectional=1,
        )
    )
    found.append(
        case(
            "Attention",
            f(b, s, 10),
            fixed(f(10, 3 * w)),
            fixed(f(3 * w)),
            np.ones((b, s), np.int32),
            num_heads=h,
            outputs=2,
        )
    )
    for with_past in (False, True):
        keys = s + (past if with_past else 0)
        found.append(
            case(
                "QAttention",
                u8(b, s, 10),
                fixed(u8(10, 3 * w)),
                fixed(f(3 * w)),
                SCALE,
                SCALE,
                None,
                ZERO,
                ZERO,
                f(2, b, h, past, d) if with_past else None,
                num_heads=h,
                outputs=2,
                unidirectional=1,
                macs=b * s * 10 * 3 * w + 2 * b * s * w * keys,
            )
        )
    found.append(
        case(
            "QAttention",
            u8(b, s, 10),
            fixed(u8(10, 3 * w)),
            fixed(f(3 * w)),
            SCALE,
            SCALE,
            i32([3, 3]),
            ZERO,
            ZERO,
            num_heads=h,
        )
    )
    return found


def multi_head() -> list[Case]:
    """Attention over several heads, with caches."""
    found: list[Case] = []
    b, s, h, d, past, w = SIZES
    q, past_kv = f(b, s, w), f(b, h, past, d)
    for keys, value_width in ((s, w), (6, w), (6, 16)):
        k, v = f(b, keys, w), f(b, keys, value_width)
        macs = b * s * w * keys + b * s * value_width * keys
        found.append(case("MultiHeadAttention", q, k, v, num_heads=h, macs=macs))
        found.append(
            case("MultiHeadAttention", q, k, v, fixed(f(2 * w + value_width)), num_heads=h, macs=macs)
        )
        found.append(
            case(
                "MultiHeadAttention",
                q,
                k,
                v,
                None,
                np.ones((b, keys), np.int32),
                f(1, 1, s, keys),
                num_heads=h,
                macs=macs,
            )
        )
        found.append(case("MultiHeadAttention", q, k, v, num_heads=h, outputs=3, macs=macs))
        found.append(case("MultiHeadAttention", q, k, v, num_heads=h, outputs=4, macs=macs))
        found.append(case("MultiHeadAttention", q, k, v, num_heads=h, outputs=(1, 0, 0, 1), macs=macs))
    for outs in (1, 3, 4):
        found.append(
            case(
                "MultiHeadAttention",
                q,
                f(b, 6, w),
                f(b, 6, w),
                None,
                None,
                None,
                past_kv,
                past_kv,
                num_heads=h,
                outputs=max(outs, 3),
                macs=2 * b * s * w * (6 + past),
            )
        )
    found.append(
        case(
            "MultiHeadAttention",
            q,
            f(b, s, w),
            f(b, s, w),
            None,
            None,
            None,
            past_kv,
            past_kv,
            num_heads=h,
            outputs=3,
            unidirectional=1,
            macs=2 * b * s * w * (s + past),
        )
    )
    found.append(
        case("MultiHeadAttention", q, f(b, h, 6, d), f(b, h, 6, d), num_heads=h, macs=2 * b * s * w * 6)
    )
    found.append(
        case(
            "MultiHeadAttention",
            q,
            f(b, h, 6, d),
            f(b, h, 6, d),
            fixed(f(3 * w)),
            num_heads=h,
            macs=2 * b * s * w * 6,
        )
    )
    cache = f(b, h, 9, d)
    one = f(b, 1, w)
    for bias in ((), (fixed(f(3 * w)),)):
        found.append(
            case(
                "DecoderMaskedMultiHeadAttention",
                one,
                one,
                one,
                None,
                None,
                cache,
                cache,
                fixed(i32([4])),
                None,
                None,
                *bias,
                outputs=3,
                num_heads=h,
                past_present_share_buffer=1,
                macs=2 * b * w * 9,
            )
        )
    found.append(case("DecoderMaskedMultiHeadAttention", one, f(b, h, 6, d), f(b, h, 6, d), num_heads=h))
    return found


def grouped() -> list[Case]:
    """Attention of groups of queries, with caches longer than the keys."""
    found: list[Case] = []
    h, kv, d = 4, 2, 16
    w = h * d
    for kv, packed, length, capacity, rotary, batch in product(
        (2, 4), (False, True), (1, 3), (0, 5, 20), (0, 1), (1, 2)
    ):
        if batch > 1 and length > 1 and capacity:  # not supported
            continue
        total = length + min(capacity, 5)
        past_cache = f(batch, kv, capacity, d) if capacity else None
        query = f(batch, length, w + (2 * kv * d if packed else 0))
        key = None if packed else f(batch, length, kv * d)
        rotation = (fixed(f(32, d // 2)), fixed(f(32, d // 2))) if rotary else ()
        lengths = fixed(np.full(batch, total - 1, np.int32)), fixed(i32(total))
        found.append(
            case(
                "GroupQueryAttention",
                query,
                key,
                key,
                past_cache,
                past_cache,
                *lengths,
                *rotation,
                outputs=3,
                num_heads=h,
                kv_num_heads=kv,
                do_rotary=rotary,
                macs=2 * batch * length * w * total,
            )
        )
    cache = f(1, kv, 20, d)
    found.append(
        case(
            "GroupQueryAttention",
            f(1, 1, w),
            f(1, 1, kv * d),
            f(1, 1, kv * d),
            cache,
            cache,
            i32([5]),
            i32(6),
            outputs=3,
            num_heads=h,
            kv_num_heads=kv,
        )
    )
    return found


def parts() -> list[Case]:
    """Rotary embeddings, linear attention, and what hyper-connections and n-grams need."""
    found: list[Case] = []
    b, s, h, d, _, w = SIZES
    kv = 2
    for interleaved, rank in product((0, 1), (3, 4)):
        x = f(b, s, w) if rank == 3 else f(b, h, s, d)
        found.append(
            case(
                "RotaryEmbedding",
                x,
                np.zeros((b, s), np.int64),
                fixed(f(16, d // 2)),
                fixed(f(16, d // 2)),
                interleaved=interleaved,
            )
        )
        found.append(
            case(
                "RotaryEmbedding",
                x,
                np.zeros(1, np.int64),
                fixed(f(16, d // 2)),
                fixed(f(16, d // 2)),
                interleaved=interleaved,
            )
        )
    found.append(
        case(
            "MRotaryEmbedding",
            f(b, s, w),
            np.zeros((3, b, s), np.int64),
            fixed(f(16, d // 2)),
            fixed(f(16, d // 2)),
            mrope_section=[2, 1, 1],
            num_heads=h,
        )
    )
    for rule, past_state in product(("linear", "gated", "delta", "gated_delta"), (False, True)):
        decay = f(b, s, kv) if rule.startswith("gated") else None
        beta = f(b, s, kv) if rule.endswith("delta") else None
        found.append(
            case(
                "LinearAttention",
                f(b, s, 4 * d),
                f(b, s, 2 * d),
                f(b, s, 2 * 6),
                f(b, 2, d, 6) if past_state else None,
                f(b, s, 2) if decay is not None else None,
                f(b, s, 2) if beta is not None else None,
                q_num_heads=4,
                kv_num_heads=2,
                update_rule=rule,
                outputs=2,
            )
        )
    found.append(case("LinearAttentionGate", f(b, s, h), fixed(f(h)), fixed(f(h))))
    found.append(case("LinearAttentionGate", f(b, s, h), fixed(f(h)), fixed(f(h)), f(b, s, h), outputs=2))
    found += [
        case("HyperConnectionPreMix", f(b, s, 4 * d), f(b, s, 4), num_branches=4),
        case("HyperConnectionPreMix", f(b, s, 4, d), f(b, s, 4, 1)),
        case("HyperConnectionPostMix", f(b, s, 4 * d), f(b, s, d), f(b, s, 4), f(b, s, 4, 4), num_branches=4),
        case("HyperConnectionPostMix", f(b, s, 4, d), f(b, s, d), f(b, s, 4, 1)),
        case("EngramGate", f(b, s, 2, d), f(b, s, 2, d), f(b, s, d), f(2, d), f(2, d), f(2, d), outputs=2),
        case(
            "NGramHashMapping",
            np.ones((b, 7), np.int64),
            fixed(i64(3, 5, 7)),
            fixed(i64([97, 89, 83, 79])),
            max_ngram_size=3,
            n_head_per_ngram=2,
            pad_id=0,
            outputs=2,
        ),
        case(
            "VarlenNGramHashMapping",
            np.ones(7, np.int64),
            fixed(i64(3, 5, 7)),
            fixed(i64([97, 89, 83, 79])),
            i32([0, 4, 7]),
            max_ngram_size=3,
            n_head_per_ngram=2,
            pad_id=0,
            outputs=2,
        ),
    ]
    return found


def attentions() -> list[Case]:
    """All cases of this module."""
    return [*projected(), *multi_head(), *grouped(), *parts()]
