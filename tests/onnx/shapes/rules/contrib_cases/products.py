"""Matrix products and recurrent layers."""

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
    i8,
    i32,
    i64,
    u8,
)


def products() -> list[Case]:
    """Matrix products."""
    found = []
    for ta, tb, alpha in product((0, 1), (0, 1), (1.0, 2.0)):
        a, b = (f(5, 4) if ta else f(4, 5)), (f(6, 5) if tb else f(5, 6))
        found.append(case("FusedMatMul", a, b, transA=ta, transB=tb, alpha=alpha, macs=120))
        found.append(case("TransposeMatMul", a, b, transA=ta, transB=tb, alpha=alpha, macs=120))
        found.append(
            case("FusedGemm", a, b, f(6), transA=ta, transB=tb, alpha=alpha, activation="Relu", macs=120)
        )
        a3, b3 = (f(2, 5, 4) if ta else f(2, 4, 5)), (f(2, 6, 5) if tb else f(2, 5, 6))
        found.append(case("FusedMatMul", a3, b3, transA=ta, transB=tb, alpha=alpha, macs=240))
        found.append(case("FusedMatMul", f(3, 1, *a3.shape[1:]), b3, transA=ta, transB=tb, macs=720))
        qa, qb = (u8(5, 4) if ta else u8(4, 5)), (u8(6, 5) if tb else u8(5, 6))
        found.append(
            case(
                "QGemm",
                qa,
                SCALE,
                ZERO,
                fixed(qb),
                SCALE,
                ZERO,
                fixed(np.ones(6, np.int32)),
                SCALE,
                ZERO,
                transA=ta,
                transB=tb,
                alpha=alpha,
                macs=120,
            )
        )
        found.append(
            case(
                "QGemm",
                qa,
                SCALE,
                ZERO,
                fixed(qb),
                SCALE,
                ZERO,
                None,
                transA=ta,
                transB=tb,
                alpha=alpha,
                macs=120,
            )
        )
    batches, rows, inner, columns = (2, 3), 4, 5, 6
    for bta, ta, btb, tb in product((0, 1), repeat=4):

        def laid_out(matrix: tuple[int, int], batch_last: int, transposed: int) -> tuple[int, ...]:
            first, last = matrix[::-1] if transposed else matrix
            return (first, *batches, last) if batch_last else (*batches, first, last)

        a, b = laid_out((rows, inner), bta, ta), laid_out((inner, columns), btb, tb)
        found.append(
            case(
                "FusedMatMul",
                f(*a),
                f(*b),
                transA=ta,
                transB=tb,
                transBatchA=bta,
                transBatchB=btb,
                macs=6 * 120,
            )
        )
        found.append(
            case(
                "FusedMatMul",
                f(*a, dtype=np.float64),
                f(*b, dtype=np.float64),
                transA=ta,
                transB=tb,
                transBatchA=bta,
                transBatchB=btb,
                macs=6 * 120,
            )
        )
    found += [
        case("FusedMatMul", f(2, 4, 5), f(5), macs=40),
        case("FusedMatMul", f(5), f(2, 5, 6), macs=60),
        case("FusedMatMul", f(2, 3, 4, 5), f(5, 6), transA=0, macs=24 * 30),
        case("MatMulInteger16", np.ones((2, 4, 5), np.int16), np.ones((5, 6), np.int16), macs=240),
        case("DynamicQuantizeMatMul", f(2, 4, 5), fixed(u8(5, 6)), fixed(f(1)), ZERO, macs=240),
        case("DynamicQuantizeMatMul", f(2, 4, 5), fixed(i8(5, 6)), fixed(f(6)), None, fixed(f(6)), macs=240),
        case("MatMulIntegerToFloat", u8(2, 4, 5), fixed(i8(5, 6)), SCALE, SCALE, macs=240),
        case(
            "MatMulIntegerToFloat", u8(4, 5), fixed(u8(5, 6)), SCALE, SCALE, ZERO, ZERO, fixed(f(6)), macs=120
        ),
    ]
    for bits, block, zero, bias in product((2, 4, 8), (16, 32), (False, True), (False, True)):
        k, n = 48, 6
        blocks = -(-k // block)
        blob = block * bits // 8
        zeros = fixed(np.full((n * -(-blocks * bits // 8),), 8, np.uint8)) if zero else None
        found.append(
            case(
                "MatMulNBits",
                f(2, 3, k),
                fixed(u8(n, blocks, blob)),
                fixed(f(n * blocks)),
                zeros,
                None,
                fixed(f(n)) if bias else None,
                K=k,
                N=n,
                bits=bits,
                block_size=block,
                macs=6 * k * n,
            )
        )
    found.append(
        case(
            "MatMulBnb4",
            f(2, 3, 32),
            fixed(u8(32 * 6 // 2)),
            fixed(f(12)),
            K=32,
            N=6,
            block_size=16,
            quant_type=1,
            macs=6 * 192,
        )
    )
    found += [
        case(
            "MoE",
            f(2, 3, 8),
            f(6, 4),
            fixed(f(4, 8, 16)),
            None,
            fixed(f(4, 16, 8)),
            k=2,
            activation_type="relu",
            macs=6 * 2 * 256,
        ),
        case(
            "MoE",
            f(2, 3, 8),
            f(6, 4),
            fixed(f(4, 16, 8)),
            None,
            fixed(f(4, 8, 16)),
            k=2,
            activation_type="relu",
            macs=6 * 2 * 256,
        ),
        case(
            "MoE",
            f(6, 8),
            f(6, 4),
            fixed(f(4, 16, 8)),
            fixed(f(4, 16)),
            fixed(f(4, 8, 16)),
            fixed(f(4, 8)),
            k=1,
            activation_type="gelu",
            macs=6 * 256,
        ),
        case(
            "QMoE",
            f(6, 32),
            f(6, 4),
            fixed(u8(4, 64, 16)),
            fixed(f(4, 64)),
            None,
            fixed(u8(4, 32, 32)),
            fixed(f(4, 32)),
            k=2,
            expert_weight_bits=4,
            activation_type="silu",
            macs=6 * 2 * 2 * 2048,
        ),
        case(
            "QMoE",
            f(6, 32),
            f(6, 4),
            fixed(u8(4, 64, 32)),
            fixed(f(4, 64)),
            None,
            fixed(u8(4, 32, 64)),
            fixed(f(4, 32)),
            k=1,
            expert_weight_bits=8,
            activation_type="relu",
            macs=6 * 2 * 2048,
        ),
    ]
    found.append(
        case(
            "MatMulFpQ4",
            f(4, 32),
            fixed(np.zeros(6 * 20, np.uint8)),
            fixed(i64([32, 6])),
            blk_quant_type=0,
            macs=4 * 192,
        )
    )
    for directions, layers in (("forward", 1), ("bidirectional", 2), ("reverse", 1)):
        x = f(7, 2, 5)
        found.append(
            case(
                "DynamicQuantizeLSTM",
                x,
                fixed(i8(layers, 5, 16)),
                fixed(i8(layers, 4, 16)),
                fixed(f(layers, 32)),
                None,
                None,
                None,
                None,
                fixed(f(layers)),
                fixed(np.zeros(layers, np.int8)),
                fixed(f(layers)),
                fixed(np.zeros(layers, np.int8)),
                hidden_size=4,
                direction=directions,
                outputs=3,
                macs=7 * 2 * layers * 16 * 9,
            )
        )
        found.append(
            case(
                "AttnLSTM",
                x,
                fixed(f(layers, 16, 5 + 3)),
                fixed(f(layers, 16, 4)),
                fixed(f(layers, 32)),
                i32([7, 7]),
                None,
                None,
                None,
                fixed(f(layers, 4, 6)),
                fixed(f(layers, 3, 6)),
                fixed(f(layers, 6)),
                f(2, 9, 3),
                i32([9, 9]),
                None,
                hidden_size=4,
                direction=directions,
                outputs=3,
            )
        )
    return found
