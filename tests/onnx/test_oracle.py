"""One small model for each trap of counting; the truth is what onnxruntime did when it ran it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import ArrayLike

from modelsurgeon.onnx.analysis import analyze
from tests import macs, zoo
from tests.zoo import ones

INT8, UINT8 = np.int8, np.uint8


def one(node: str, x: str = "float[1, 4, 8, 8]", *, opset: int = 17, **weights: ArrayLike) -> ir.Model:
    """A model of one input and whatever makes y of it."""
    return zoo.model(f"g ({x} x) => (y) {{ {node} }}", opset=opset, **weights)


def recurrent(op: str, direction: str, *, optional: bool) -> ir.Model:
    """Seven steps of two sequences, five features, three hidden units."""
    ways, gates = 1 + (direction == "bidirectional"), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    extra = {"b": ones(ways, 2 * gates * 3), "n": np.array([7, 4], np.int32), "h": ones(ways, 2, 3)}
    if op == "LSTM":
        extra |= {"c": ones(ways, 2, 3), "p": ones(ways, 9)}
    given = extra if optional else {}
    node = f'y = {op} <hidden_size = 3, direction = "{direction}"> ({", ".join(("x", "w", "r", *given))})'
    return one(
        node, "float[7, 2, 5]", opset=14, w=ones(ways, gates * 3, 5), r=ones(ways, gates * 3, 3), **given
    )


def shared() -> ir.Model:
    """One weight, used two hundred times."""
    steps = " ".join(f"h{k + 1} = MatMul (h{k}, w)" for k in range(200))
    return one(f"h0 = Relu (x) {steps} y = Relu (h200)", "float[2, 4]", w=ones(4, 4))


def attention(text: str, *inputs: str) -> ir.Model:
    ports = ", ".join(inputs)
    return zoo.model(f"g ({ports}) => (y) {{ {text} }}", opset=23, version=11)


QKV = ("float[2, 8, 6, 4] q", "float[2, 2, 7, 4] k", "float[2, 2, 7, 5] v")
SCALES = {"s": np.float32(0.1), "z": UINT8(3)}
BYTES = "DynamicQuantizeLinear (x)"

TRAPS: dict[str, Callable[[], ir.Model]] = {
    "1-D convolution, dilated": lambda: one(
        "y = Conv <dilations = [2], pads = [3, 1]> (x, w)", "float[2, 3, 20]", w=ones(5, 3, 3)
    ),
    "grouped convolution, uneven": lambda: one(
        "y = Conv <group = 2, strides = [1, 2], pads = [0, 1, 2, 3]> (x, w, b)", w=ones(6, 2, 3, 2), b=ones(6)
    ),
    "depthwise convolution": lambda: one(
        'y = Conv <group = 4, auto_pad = "SAME_UPPER", strides = [3, 3]> (x, w)', w=ones(8, 1, 3, 3)
    ),
    "3-D convolution": lambda: one("y = Conv (x, w)", "float[1, 2, 4, 5, 6]", w=ones(3, 2, 2, 3, 2)),
    "transposed convolution": lambda: one(
        "y = ConvTranspose <strides = [2, 3], pads = [1, 0, 0, 1], output_padding = [1, 2]> (x, w, b)",
        w=ones(4, 3, 3, 4),
        b=ones(3),
    ),
    "transposed convolution with groups": lambda: one(
        "y = ConvTranspose <group = 2, strides = [2, 2]> (x, w)", w=ones(4, 3, 2, 2)
    ),
    "transposed Gemm": lambda: one(
        "y = Gemm <transA = 1, transB = 1, alpha = 0.5> (x, w, b)", "float[6, 4]", w=ones(5, 6), b=ones(5)
    ),
    "stretched MatMul": lambda: one("y = MatMul (x, w)", "float[7, 1, 5, 4]", w=ones(2, 4, 3)),
    "MatMul of vectors": lambda: one("y = MatMul (x, w)", "float[4]", w=ones(4)),
    "Einsum of three": lambda: one(
        'y = Einsum <equation = "ij,jk,kl->il"> (x, v, w)', "float[2, 3]", v=ones(3, 4), w=ones(4, 5)
    ),
    "Einsum of batches": lambda: one(
        'y = Einsum <equation = "bik,bjk->bij"> (x, w)', "float[5, 2, 3]", w=ones(5, 4, 3)
    ),
    "a weight used two hundred times": shared,
    "weights as ConstantOfShape": lambda: one(
        "n = Constant <value = int64[4] {3, 4, 2, 2}> () w = ConstantOfShape <value = float[1] {1.0}> (n)"
        " y = Conv (x, w)"
    ),
    "a weight behind Identity, Cast and Transpose": lambda: one(
        "i = Identity (w) c = Cast <to = 1> (i) t = Transpose (c) y = MatMul (x, t)",
        "float[2, 4]",
        w=np.ones((3, 4), np.float16),
    ),
    "bfloat16 weights": lambda: one(
        "c = Cast <to = 1> (w) y = MatMul (x, c)", "float[2, 4]", w=np.ones((4, 3), ml_dtypes.bfloat16)
    ),
    "int4 weights": lambda: one(
        "d = DequantizeLinear (w, s) y = MatMul (x, d)",
        "float[2, 4]",
        opset=21,
        w=np.ones((4, 3), ml_dtypes.int4),
        s=np.float32(1),
    ),
    "8-bit float weights": lambda: one(
        "c = Cast <to = 1> (w) y = MatMul (x, c)",
        "float[2, 4]",
        opset=19,
        w=np.ones((4, 3), ml_dtypes.float8_e4m3fn),
    ),
    "quantised and back": lambda: one(
        "a = QuantizeLinear (x, s, z) d = DequantizeLinear (a, s, z) w = DequantizeLinear (q, s, z)"
        " y = Conv (d, w)",
        q=np.ones((3, 4, 3, 3), UINT8),
        **SCALES,
    ),
    "QLinearConv": lambda: one(
        "a = QuantizeLinear (x, s, z) y = QLinearConv <pads = [1, 1, 1, 1]> (a, s, z, q, s, z, s, z, b)",
        q=np.ones((3, 4, 3, 3), UINT8),
        b=np.ones(3, np.int32),
        **SCALES,
    ),
    "QLinearMatMul": lambda: one(
        "a = QuantizeLinear (x, s, z) y = QLinearMatMul (a, s, z, q, s, z, s, z)",
        "float[2, 4]",
        q=np.ones((4, 3), UINT8),
        **SCALES,
    ),
    "ConvInteger": lambda: one(
        f"a, s, z = {BYTES} y = ConvInteger (a, q, z)", q=np.ones((3, 4, 3, 3), UINT8)
    ),
    "MatMulInteger": lambda: one(
        f"a, s, z = {BYTES} y = MatMulInteger (a, q, z)", "float[2, 4]", q=np.ones((4, 3), UINT8)
    ),
    "MatMulNBits": lambda: one(
        "y = com.microsoft.MatMulNBits <K = 64, N = 10, bits = 4, block_size = 32> (x, w, s)",
        "float[2, 5, 64]",
        w=np.zeros((10, 2, 16), UINT8),
        s=ones(20),
    ),
    "DynamicQuantizeMatMul": lambda: one(
        "y = com.microsoft.DynamicQuantizeMatMul (x, w, s)",
        "float[2, 4]",
        w=np.ones((4, 3), UINT8),
        s=np.float32(1),
    ),
    "DynamicQuantizeLSTM": lambda: one(
        'y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 3, direction = "bidirectional">'
        " (x, w, r, , , , , , s, z, s, z)",
        "float[7, 2, 5]",
        w=np.ones((2, 5, 12), INT8),
        r=np.ones((2, 3, 12), INT8),
        s=ones(2),
        z=np.zeros(2, INT8),
    ),
    "FusedConv": lambda: one(
        'y = com.microsoft.FusedConv <activation = "Relu", kernel_shape = [3, 3]> (x, w, b)',
        w=ones(3, 4, 3, 3),
        b=ones(3),
    ),
    "FusedGemm": lambda: one(
        'y = com.microsoft.FusedGemm <activation = "Relu", transB = 1> (x, w, b)',
        "float[2, 4]",
        w=ones(3, 4),
        b=ones(3),
    ),
    "FusedMatMul": lambda: one(
        "y = com.microsoft.FusedMatMul <transA = 1> (x, w)", "float[4, 2]", w=ones(4, 3)
    ),
    "DeformConv": lambda: one(
        "y = DeformConv <kernel_shape = [3, 3]> (x, w, o)", opset=19, w=ones(3, 4, 3, 3), o=ones(1, 18, 6, 6)
    ),
    "Fourier transforms": lambda: one("y = DFT <axis = 1> (x)", "float[2, 16, 1]"),
    "short-time Fourier transforms": lambda: one(
        "y = STFT (x, step, w)", "float[2, 64, 1]", step=np.array(8), w=ones(16)
    ),
    "GridSample": lambda: one("y = GridSample (x, g)", g=ones(1, 5, 5, 2)),
    "grouped heads": lambda: attention("y = Attention (q, k, v)", *QKV),
    "a cache of keys": lambda: attention(
        "y, pk, pv = Attention (q, k, v, , k0, v0)",
        *QKV,
        "float[2, 2, 9, 4] k0",
        "float[2, 2, 9, 5] v0",
    ),
    "packed heads": lambda: attention(
        "y = Attention <q_num_heads = 6, kv_num_heads = 3> (q, k, v)",
        "float[2, 6, 24] q",
        "float[2, 7, 12] k",
        "float[2, 7, 15] v",
    ),
    "contrib attention": lambda: one(
        "y = com.microsoft.Attention <num_heads = 2> (x, w, b)", "float[2, 5, 8]", w=ones(8, 24), b=ones(24)
    ),
    "contrib multi-head attention": lambda: attention(
        "y = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v)",
        "float[2, 6, 8] q",
        "float[2, 7, 8] k",
        "float[2, 7, 8] v",
    ),
    "contrib grouped attention with a cache": lambda: zoo.model(
        """
        g (
            float[1, 3, 32] q, float[1, 3, 16] k, float[1, 3, 16] v,
            float[1, 2, 5, 8] k0, float[1, 2, 5, 8] v0
        ) => (y) {
            y, pk, pv = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2>
                (q, k, v, k0, v0, last, all)
        }
        """,
        last=np.array([7], np.int32),
        all=np.array(8, np.int32),
    ),
    "maxout by Reshape and ReduceMax": lambda: one(
        "c = Conv (x, w) r = Reshape (c, n) y = ReduceMax <axes = [2], keepdims = 0> (r)",
        w=ones(6, 4, 1, 1),
        n=np.array([1, 3, 2, 8, 8]),
    ),
    "maxout by Max of slices": lambda: one(
        "c = Conv (x, w) a, b = Split <axis = 1> (c, n) y = Max (a, b)",
        w=ones(6, 4, 1, 1),
        n=np.array([3, 3]),
    ),
    "a locally connected layer by groups": lambda: one(
        "r = Reshape (x, n) y = Conv <group = 64> (r, w)", w=ones(192, 4, 1, 1), n=np.array([1, 256, 1, 1])
    ),
    "a locally connected layer by Einsum": lambda: one(
        'y = Einsum <equation = "bchw,hwck->bkhw"> (x, w)', w=ones(8, 8, 4, 3)
    ),
    "a locally connected layer by batches": lambda: one(
        "t = Transpose <perm = [2, 3, 0, 1]> (x) y = MatMul (t, w)", w=ones(8, 8, 4, 3)
    ),
    "a fully connected layer for each column": lambda: one("y = Conv (x, w)", w=ones(5, 4, 8, 1)),
    "the same by MatMul": lambda: one(
        "t = Transpose <perm = [0, 3, 1, 2]> (x) r = Reshape (t, n) y = MatMul (r, w)",
        w=ones(32, 5),
        n=np.array([1, 8, 32]),
    ),
    "a loop": zoo.loop,
    "a scan": zoo.scan,
    "functions": zoo.functions,
    "a branch that a constant chooses": lambda: zoo.branches("yes"),
    "a branch that an input chooses": zoo.branches,
    "quantised weights": zoo.quantised,
    **{
        f"{op} {direction}, {'all' if optional else 'no'} optional inputs": (
            lambda op=op, direction=direction, optional=optional: recurrent(op, direction, optional=optional)
        )
        for op in ("LSTM", "GRU", "RNN")
        for direction in ("forward", "reverse", "bidirectional")
        for optional in (False, True)
    },
}


def feed(model: ir.Model) -> dict[str, np.ndarray]:
    """Zeros for all inputs: a condition is false then, which is the dearer branch of the zoo."""
    return {
        str(value.name): np.zeros(tuple(value.shape.numpy()), value.dtype.numpy())
        for value in model.graph.inputs
        if value.shape is not None and value.dtype is not None
    }


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_counted_is_what_runs(name: str, tmp_path: Path) -> None:
    model = TRAPS[name]()
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
    kernels = macs.ran(ir.to_proto(model), feed(model), tmp_path)
    found = analyze(model)
    assert found.totals.macs == macs.macs(kernels)
    assert not found.uncounted
    assert all(shape is not None for row in found.layers for shape in row.output_shapes)
