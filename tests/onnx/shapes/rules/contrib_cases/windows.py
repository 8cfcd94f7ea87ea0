"""Convolutions and pools, with the channels first, last or in blocks."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.onnx.shapes.rules.contrib_cases.case import (
    NCHWC,
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


def convolutions() -> list[Case]:
    """Convolutions and pools, in either layout."""
    found = [
        case(
            "FusedConv",
            f(2, 4, 7, 8),
            f(6, 4, 3, 3),
            f(6),
            activation="Relu",
            pads=[1, 0, 1, 2],
            strides=[2, 1],
            macs=2 * 6 * 4 * 8 * 36,
        ),
        case(
            "FusedConv",
            f(2, 4, 7, 8),
            f(6, 2, 3, 3),
            None,
            f(2, 6, 7, 8),
            activation="Relu",
            pads=[1] * 4,
            group=2,
            macs=2 * 6 * 56 * 18,
        ),
        case(
            "FusedConv",
            f(2, 4, 9),
            f(6, 4, 3),
            activation="HardSigmoid",
            activation_params=[0.2, 0.5],
            dilations=[2],
            macs=2 * 6 * 5 * 12,
        ),
        case(
            "FusedConv",
            f(2, 4, 7, 9),
            f(6, 4, 3, 3),
            activation="Tanh",
            auto_pad="SAME_UPPER",
            strides=[2, 2],
            macs=2 * 6 * 4 * 5 * 36,
        ),
        case(
            "ConvTransposeWithDynamicPads",
            f(2, 3, 5, 5),
            f(3, 4, 3, 3),
            fixed(i64(1, 1, 1, 1)),
            strides=[2, 2],
            macs=2 * 3 * 25 * 36,
        ),
        case(
            "ConvTransposeWithDynamicPads",
            f(2, 3, 5, 5),
            f(3, 4, 3, 3),
            fixed(i64(0, 1, 2, 0)),
            f(4),
            kernel_shape=[3, 3],
            output_padding=[1, 0],
            strides=[2, 2],
            macs=2 * 3 * 25 * 36,
        ),
        case(
            "ConvTransposeWithDynamicPads",
            f(2, 4, 5, 5),
            f(4, 3, 3, 3),
            fixed(i64(0, 0, 0, 0)),
            group=2,
            dilations=[2, 2],
            macs=2 * 4 * 25 * 27,
        ),
        case(
            "MaxpoolWithMask",
            f(2, 3, 7, 8),
            np.ones((2, 3, 7, 8), np.int32),
            kernel_shape=[3, 3],
            strides=[2, 2],
        ),
        case(
            "MaxpoolWithMask",
            f(2, 3, 7, 8),
            np.ones((2, 3, 7, 8), np.int32),
            kernel_shape=[2, 3],
            pads=[1, 0, 0, 1],
        ),
        case(
            "CropAndResize",
            f(2, 3, 8, 9),
            fixed(np.array([[0, 0, 1, 1]] * 5, np.float32)),
            fixed(i32([0, 1, 0, 1, 0])),
            fixed(i32(4, 6)),
        ),
        case(
            "CropAndResize",
            f(2, 3, 8, 9),
            np.array([[0, 0, 1, 1]] * 5, np.float32),
            i32([0, 1, 0, 1, 0]),
            fixed(i32(4, 6)),
            mode="nearest",
        ),
        case("WordConvEmbedding", np.ones((3, 7), np.int32), f(6, 1, 3, 4), f(6), f(20, 4)),
        case(
            "WordConvEmbedding",
            np.ones((2, 3, 7), np.int32),
            fixed(f(6, 1, 3, 4)),
            fixed(f(6)),
            fixed(f(20, 4)),
            embedding_size=6,
            conv_window_size=3,
            char_embedding_size=4,
        ),
    ]
    shapes = {False: (2, 4, 9, 10), True: (2, 9, 10, 4)}
    windows = (
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 2], "strides": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
    )
    for channels_last, window in product((False, True), windows):
        found.append(
            case(
                "QLinearAveragePool",
                u8(*shapes[channels_last]),
                SCALE,
                ZERO,
                SCALE,
                ZERO,
                channels_last=int(channels_last),
                **window,
            )
        )
    for window in (*windows, {"kernel_shape": [2, 3], "dilations": [2, 3], "pads": [1, 1, 1, 1]}):
        found.append(case("NhwcMaxPool", u8(*shapes[True]), **window))
        found.append(case("MaxPool", f(2, 16, 9, 10), domain=NCHWC, **window))
        if "dilations" not in window:
            found.append(case("AveragePool", f(2, 16, 9, 10), domain=NCHWC, count_include_pad=1, **window))
    found.append(case("NhwcMaxPool", i8(2, 9, 4), kernel_shape=[3], strides=[2]))
    found.append(case("NhwcMaxPool", i8(2, 6, 7, 8, 4), kernel_shape=[3, 2, 2], strides=[2, 1, 2]))
    found.append(case("QLinearAveragePool", i8(2, 4, 9), SCALE, ZERO_I8, SCALE, ZERO_I8, kernel_shape=[3]))
    found.append(
        case("QLinearAveragePool", i8(2, 4, 6, 7, 8), SCALE, ZERO_I8, SCALE, ZERO_I8, kernel_shape=[3, 2, 2])
    )
    for last, shape in shapes.items():
        found.append(
            case("QLinearGlobalAveragePool", u8(*shape), SCALE, ZERO, SCALE, ZERO, channels_last=int(last))
        )
    found.append(case("QLinearGlobalAveragePool", i8(2, 4, 9), SCALE, ZERO_I8, SCALE, ZERO_I8))
    weight, scales = fixed(i8(6, 4, 3, 3)), (SCALE, ZERO_I8)
    for last, extra in product(
        (False, True),
        (
            {},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"dilations": [2, 2], "auto_pad": "VALID"},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        ),
    ):
        found.append(
            case(
                "QLinearConv",
                u8(*shapes[last]),
                SCALE,
                ZERO,
                weight,
                *scales,
                SCALE,
                ZERO,
                fixed(np.ones(6, np.int32)),
                channels_last=int(last),
                **extra,
            )
        )
    found.append(
        case(
            "QLinearConv",
            u8(2, 4, 9, 10),
            SCALE,
            ZERO,
            fixed(i8(6, 2, 3, 3)),
            fixed(f(6)),
            fixed(np.zeros(6, np.int8)),
            SCALE,
            ZERO,
            group=2,
            macs=2 * 6 * 56 * 18,
        )
    )
    found.append(
        case(
            "QLinearConv",
            u8(2, 9, 4),
            SCALE,
            ZERO,
            fixed(i8(6, 4, 3)),
            *scales,
            SCALE,
            ZERO,
            channels_last=1,
            macs=2 * 6 * 7 * 12,
        )
    )
    for extra in (
        {},
        {"strides": [2, 2], "pads": [1, 0, 1, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"dilations": [2, 2]},
        {"activation": "Relu"},
    ):
        for weight_shape, channels, group in (
            ((32, 16, 3, 3), 16, 1),
            ((16, 3, 3, 3), 3, 1),
            ((16, 1, 3, 3), 16, 16),
            ((32, 16, 3, 3), 32, 2),
        ):
            found.append(
                case(
                    "Conv",
                    f(2, channels, 9, 10),
                    fixed(f(*weight_shape)),
                    fixed(f(weight_shape[0])),
                    domain=NCHWC,
                    group=group,
                    **extra,
                )
            )
    found += [
        case(
            "Conv",
            f(2, 16, 9, 10),
            fixed(f(32, 16, 3, 3)),
            None,
            f(2, 32, 7, 8),
            domain=NCHWC,
            macs=2 * 32 * 56 * 144,
        ),
        case("ReorderInput", f(2, 16, 5, 6), domain=NCHWC),
        case("ReorderInput", f(2, 5, 6, 32), domain=NCHWC, channels_last=1),
        case("ReorderOutput", f(2, 32, 5, 6), domain=NCHWC, channels=20),
        case("ReorderOutput", f(2, 32, 5, 6), domain=NCHWC, channels=32),
        case("ReorderOutput", f(2, 32, 5, 6), domain=NCHWC, channels=20, channels_last=1),
        case("GlobalMaxPool", f(2, 16, 5, 6), domain=NCHWC),
        case("GlobalAveragePool", f(2, 16, 5, 6), domain=NCHWC),
        case("Upsample", f(2, 16, 5, 6), domain=NCHWC, scales=[1, 1, 2, 3]),
        case(
            "Upsample",
            f(2, 16, 5, 6),
            domain=NCHWC,
            scales=[1, 1, 2, 2],
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        ),
        case(
            "Upsample",
            f(2, 16, 5, 6),
            domain=NCHWC,
            scales=[1, 1, 3, 2],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        ),
    ]
    for activation, bias, past in product(("none", "silu"), (False, True), (False, True)):
        found.append(
            case(
                "CausalConvWithState",
                f(2, 4, 9),
                f(4, 1, 3),
                f(4) if bias else None,
                f(2, 4, 2) if past else None,
                outputs=2,
                activation=activation,
                macs=2 * 4 * 9 * 3,
            )
        )
    found += [
        case(
            "CausalConvWithState",
            f(2, 4, 9),
            f(4, 1, 3),
            None,
            None,
            outputs=2,
            dilation=2,
            macs=2 * 4 * 9 * 3,
        ),
        case(
            "CausalConvWithState",
            f(2, 9, 4),
            f(4, 1, 3),
            None,
            None,
            outputs=2,
            channels_last=1,
            macs=2 * 4 * 9 * 3,
        ),
        case(
            "CausalConvWithState",
            f(2, 9, 4),
            f(4, 1, 3),
            None,
            f(2, 2, 4),
            outputs=2,
            channels_last=1,
            macs=2 * 4 * 9 * 3,
        ),
    ]
    return found
