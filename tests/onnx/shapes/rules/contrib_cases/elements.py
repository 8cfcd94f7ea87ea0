"""Operators for each element, norms, selections, and those that onnxruntime adds to the standard domain."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.onnx.shapes.rules.contrib_cases.case import (
    SCALE,
    ZERO,
    ZERO_I8,
    Case,
    case,
    f,
    fixed,
    i8,
    i32,
    i64,
    u8,
)


def elementwise() -> list[Case]:
    """Operators whose output has the shape of an input, or of two broadcast ones."""
    x, bias = f(2, 3, 8), f(8)
    found = [
        *(case(op, x) for op in ("Gelu", "QuickGelu", "FastGelu")),
        case("FastGelu", x, bias),
        case("BiasGelu", x, bias),
        case("ScaledSiLU", x, f()),
        case("Inverse", f(2, 4, 4) + np.eye(4, dtype=np.float32)),
        case("Trilu", f(2, 4, 5)),
        case("Trilu", f(2, 4, 5), fixed(i64(1)), upper=0),
        case("GatedAdd", x, x, f(2, 3, 1)),
        case("GatedRMSNorm", x, f(8), x),
        case("BranchwiseRMSNorm", f(2, 3, 32), f(4, 8), num_branches=4),
        case("BranchwiseRMSNorm", f(2, 3, 32), f(8), num_branches=4),
        case("ExpandDims", f(3, 4), fixed(i32(0))),
        case("ExpandDims", f(3, 4), fixed(i32(1))),
        case("ExpandDims", f(3, 4), fixed(i32(2))),
        case("ExpandDims", f(3, 4), fixed(i32(-1))),
        case("ExpandDims", f(3, 4), fixed(i32(-3))),
        case("SampleOp", x),
        case("CDist", f(5, 3), f(4, 3), metric="euclidean", macs=None),
        case("CDist", f(5, 3), f(4, 3), metric="sqeuclidean"),
        case("CDist", f(5, 3, dtype=np.float64), f(4, 3, dtype=np.float64), metric="euclidean"),
        case("MurmurHash3", i32(1, 2, 3)),
        case("MurmurHash3", i32(1, 2, 3), positive=0),
        case("Range", fixed(f()), fixed(np.float32(7)), fixed(np.float32(2))),
        case("Range", fixed(i64(1)), fixed(i64(7))),
        case("Unique", f(4), outputs=3),
        case("GridSample", f(2, 3, 5, 6), f(2, 4, 7, 2)),
        case("GatherND", f(2, 3, 4), fixed(i64([0, 1], [1, 2]))),
        case("GatherND", f(2, 3, 4), fixed(i64([[0], [1]], [[1], [1]], [[0], [0]]))),
        case("Pad", f(2, 3), fixed(i64(1, 0, 2, 1)), fixed(f(1))),
        case("Pad", f(2, 3), fixed(i64(1, 0, 2, 1)), mode="edge"),
        case("Pad", f(2, 3), fixed(i64([1, 0, 1, 1])), mode="reflect"),
        case("UnfoldTensor", f(3, 10), size=4, step=2),
        case("UnfoldTensor", f(3, 10), size=4, step=3, dim=1),
        case("UnfoldTensor", f(7, 10), size=3, step=1, dim=0),
        case("UnfoldTensor", f(2, 9, 3), size=3, step=3, dim=-2),
        case("UnfoldTensor", f(5, 10), size=4),
        case("DynamicTimeWarping", f(4, 6)),
        case("DynamicTimeWarping", f(1, 4, 6)),
        case("NGramRepeatBlock", np.zeros((2, 5), np.int64), f(2, 9), ngram_size=2),
        case("BifurcationDetector", i64([1, 2, 3, 4]), i64([1, 2]), fixed(i64(0)), outputs=2),
        case(
            "BifurcationDetector",
            i64([1, 2, 3, 4]),
            i64([1, 2]),
            fixed(i64(0)),
            i64([1, 2, 3, 4, 5]),
            outputs=2,
        ),
        case(
            "Tokenizer",
            np.array(["a b", "c d"], dtype=object),
            separators=[" "],
            mark=0,
            mincharnum=1,
            pad_value="#",
        ),
    ]
    for op in ("QLinearAdd", "QLinearMul"):
        for left, right in (
            ((2, 3, 4), (2, 3, 4)),
            ((2, 3, 4), (4,)),
            ((2, 1, 4), (1, 3, 1)),
            ((1,), (2, 5)),
        ):
            found.append(case(op, u8(*left), SCALE, ZERO, u8(*right), SCALE, ZERO, SCALE, ZERO))
    found += [
        case("QLinearAdd", i8(2, 3), SCALE, ZERO_I8, i8(3), SCALE, ZERO_I8, SCALE, ZERO_I8),
        case("QLinearSigmoid", u8(2, 5), SCALE, ZERO, SCALE, ZERO),
        case("QLinearLeakyRelu", u8(2, 5), SCALE, ZERO, SCALE, ZERO, alpha=0.1),
        case("QLinearSoftmax", u8(2, 5), SCALE, ZERO, SCALE, ZERO, opset=13, axis=-1),
        case("QLinearConcat", SCALE, ZERO, u8(2, 3), SCALE, ZERO, u8(2, 4), SCALE, ZERO, axis=1),
        case("QLinearConcat", SCALE, ZERO, u8(2, 3), SCALE, ZERO, u8(5, 3), SCALE, ZERO, axis=-2),
        case(
            "QLinearConcat",
            SCALE,
            ZERO_I8,
            i8(2, 3),
            SCALE,
            ZERO_I8,
            i8(5, 3),
            SCALE,
            ZERO_I8,
            i8(1, 3),
            SCALE,
            ZERO_I8,
            axis=0,
        ),
        case(
            "QLinearWhere", np.ones((2, 1), bool), u8(2, 3), SCALE, ZERO, u8(1, 3), SCALE, ZERO, SCALE, ZERO
        ),
        case(
            "QLinearWhere", np.ones((4, 2, 1), bool), u8(3), SCALE, ZERO, u8(2, 3), SCALE, ZERO, SCALE, ZERO
        ),
        case("QuantizeLinear", f(2, 3), SCALE, ZERO),
        case("QuantizeLinear", f(2, 3), SCALE, ZERO_I8),
        case("QuantizeLinear", f(2, 3), fixed(f(3)), fixed(u8(3)), axis=1),
        case("QuantizeLinear", f(2, 3), SCALE, fixed(np.uint16(3))),
        case("DequantizeLinear", u8(2, 3), SCALE, ZERO),
        case("DequantizeLinear", u8(2, 3), fixed(f(2)), fixed(u8(2)), axis=0),
        case("DequantizeLinear", i32([1, 2], [3, 4]), SCALE),
    ]
    return found


def normalizations() -> list[Case]:
    """Norms with a skip, and norms of embeddings."""
    x, w = f(2, 3, 8), f(8)
    ids = np.zeros((2, 5), np.int32)
    found = [
        case("SkipLayerNormalization", x, x, w, w),
        case("SkipLayerNormalization", x, x, w, w, w),
        case("SkipLayerNormalization", x, x, w, w, w, outputs=(1, 0, 0, 1)),
        case("SkipLayerNormalization", x, f(3, 8), w, w, None, outputs=(1, 0, 0, 1)),
        case("SkipLayerNormalization", f(6, 8), f(6, 8), w),
        case("SkipSimplifiedLayerNormalization", x, x, w),
        case("SkipSimplifiedLayerNormalization", x, x, w, w, outputs=(1, 0, 0, 1)),
        case("SkipSimplifiedLayerNormalization", x, f(1, 3, 8), w, outputs=(1, 0, 0, 1)),
    ]
    for segments, mask, outs in product((False, True), (False, True), (2, 3)):
        found.append(
            case(
                "EmbedLayerNormalization",
                ids,
                ids if segments else None,
                f(10, 8),
                f(6, 8),
                f(2, 8) if segments else None,
                w,
                w,
                ids if mask else None,
                outputs=outs,
            )
        )
    found.append(
        case(
            "EmbedLayerNormalization",
            ids,
            None,
            f(10, 8),
            f(6, 8),
            None,
            w,
            w,
            mask_index_type=0,
            outputs=(1, 0, 1),
        )
    )
    q = [fixed(u8(10, 8)), fixed(u8(6, 8)), None, fixed(u8(8)), fixed(u8(8))]
    found.append(
        case(
            "QEmbedLayerNormalization",
            ids,
            None,
            *q,
            ids,
            SCALE,
            SCALE,
            None,
            SCALE,
            SCALE,
            ZERO,
            ZERO,
            None,
            ZERO,
            ZERO,
            outputs=2,
        )
    )
    found.append(
        case(
            "QEmbedLayerNormalization",
            ids,
            ids,
            q[0],
            q[1],
            fixed(u8(2, 8)),
            q[3],
            q[4],
            None,
            SCALE,
            SCALE,
            SCALE,
            SCALE,
            SCALE,
            ZERO,
            ZERO,
            ZERO,
            ZERO,
            ZERO,
            outputs=2,
        )
    )
    return found


def standard_domain() -> list[Case]:
    """Operators that onnxruntime adds to the standard domain, or to older opsets of it."""
    x = f(2, 3, 4, 5)
    return [
        case("LayerNormalization", x, f(5), f(5), domain="", imports=11),
        case("LayerNormalization", x, f(4, 5), f(4, 5), domain="", imports=13, axis=2),
        case("SimplifiedLayerNormalization", x, f(5), domain="", imports=11),
        case("ThresholdedRelu", x, domain="", imports=7),
        case("MeanVarianceNormalization", x, domain="", imports=8),
        case("Affine", x, domain="", imports=9, alpha=2.0, beta=1.0),
        case("ImageScaler", x, domain="", imports=9, bias=[1.0, 2.0, 3.0], scale=2.0),
        case("ParametricSoftplus", x, domain="", imports=9, alpha=1.0, beta=1.0),
        case("ScaledTanh", x, domain="", imports=9, alpha=1.0, beta=1.0),
        case("Scale", x, domain="", imports=9, scale=2.0),
        case("Crop", x, domain="", imports=9, border=[1, 0, 2, 1]),
        case("Crop", x, domain="", imports=9, border=[1, 0, 2, 1], scale=[2, 3]),
        case("DynamicSlice", x, fixed(i64([0, 1])), fixed(i64([2, 3])), domain="", imports=9),
        case("DynamicSlice", x, fixed(i64([1])), fixed(i64([4])), fixed(i64([3])), domain="", imports=9),
    ]


def gathers() -> list[Case]:
    """GatherBlockQuantized in bits, blocks, axes and ranks of the indices."""
    found = []
    for bits, block, indices in product((4, 8), (16, 32), (i64(1), i64([0, 1, 2]), i64([[0, 1], [2, 3]]))):
        data = u8(5, 64 * bits // 8)
        found.append(
            case(
                "GatherBlockQuantized",
                fixed(data),
                np.array(indices),
                fixed(f(5, 64 // block)),
                bits=bits,
                block_size=block,
                gather_axis=0,
                quantize_axis=1,
            )
        )
        zeros = fixed(np.full((5, -(-(64 // block) * bits // 8)), 8, np.uint8))
        found.append(
            case(
                "GatherBlockQuantized",
                fixed(data),
                np.array(indices, np.int32),
                fixed(f(5, 64 // block, dtype=np.float16)),
                zeros,
                bits=bits,
                block_size=block,
                gather_axis=0,
                quantize_axis=1,
            )
        )
    found.append(
        case(
            "GatherBlockQuantized",
            fixed(u8(5, 3, 16)),
            i64([0, 4]),
            fixed(f(5, 3, 2)),
            bits=4,
            block_size=16,
            gather_axis=0,
            quantize_axis=-1,
        )
    )
    found.append(case("GatherBlockQuantized", fixed(u8(5, 32)), i64([0, 4]), fixed(f(5, 2)), block_size=32))
    return found
