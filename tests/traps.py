"""Small models, each with one feature of real files that is easy to miscount."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike

from tests import zoo
from tests.zoo import ones

INT8, UINT8 = np.int8, np.uint8


def one(node: str, x: str = "float[1, 4, 8, 8]", *, opset: int = 17, **weights: ArrayLike) -> ir.Model:
    """A model with one input x and the nodes that compute y."""
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
ONES_OF_12 = ", ".join(12 * "1")

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
    "quantized and back": lambda: one(
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
    "weights in Constant nodes": lambda: one(
        f"w = Constant <value = float[4, 3] {{{ONES_OF_12}}}> () y = MatMul (x, w)", "float[2, 4]"
    ),
    "half precision": lambda: one(
        "y = Conv (x, w)", "float16[1, 4, 8, 8]", w=np.ones((3, 4, 3, 3), np.float16)
    ),
    "inputs of all types": lambda: zoo.model(
        """
        g (int32[2, 3] i, bool[2, 4] c, uint8[2, 4] u, float16[2, 4] h) => (y) {
            e = Gather (t, i) s = ReduceSum <keepdims = 0> (e, axis)
            a = Cast <to = 1> (u) b = Cast <to = 1> (h) d = Where (c, a, b)
            m = MatMul (d, w) y = Add (m, s)
        }
        """,
        t=ones(5, 3),
        w=ones(4, 3),
        axis=np.array([1]),
    ),
    "weights that are inputs": lambda: zoo.model(
        "g (float[1, 4, 8, 8] x, float[6, 2, 3, 3] w) => (y) { y = Conv <group = 2> (x, w) }"
    ),
    "a whole net inside an If": lambda: zoo.model(
        f"""
        g (float[2, 4] x, bool c) => (y) {{
            y = If (c) <
                then_branch = t () => (float[2, 3] a) {{
                    v = Constant <value = float[4, 3] {{{ONES_OF_12}}}> () a = MatMul (x, v)
                }},
                else_branch = e () => (float[2, 3] b) {{
                    w = Constant <value = float[4, 3] {{{ONES_OF_12}}}> () h = MatMul (x, w) b = Relu (h)
                }}
            >
        }}
        """
    ),
    "a loop in a loop": lambda: zoo.model(
        """
        g (float[2, 4] x) => (float y) {
            n = Constant <value = int64 {3}> () m = Constant <value = int64 {5}> ()
            yes = Constant <value = bool {1}> ()
            y = Loop (n, yes, x) <
                body = outer (int64 k, bool i, float[2, 4] s) => (bool o, float z) {
                    o = Identity (i)
                    z = Loop (m, yes, s) <
                        body = inner (int64 k2, bool i2, float[2, 4] s2) => (bool o2, float z2) {
                            o2 = Identity (i2) z2 = MatMul (s2, w)
                        }
                    >
                }
            >
        }
        """,
        w=ones(4, 4),
    ),
    "a scan of two, one of them backwards": lambda: zoo.model(
        """
        g (float[7, 4] x, float[3, 7, 5] z) => (float[7, 3] y) {
            y = Scan <
                num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [1, 0],
                body = b (float[4] r, float[3, 5] q) => (float[3] s) {
                    a = MatMul (r, w) c = MatMul (q, v) s = Add (a, c)
                }
            > (x, z)
        }
        """,
        w=ones(4, 3),
        v=ones(5),
    ),
    "a function that calls another": lambda: zoo.model(
        """
        g (float[2, 4] x) => (float[2, 4] y) { y = local.outer (x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        inner (a) => (c) {
            n = Constant <value = int64[2] {4, 4}> ()
            w = ConstantOfShape <value = float[1] {2.0}> (n)
            c = MatMul (a, w)
        }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        outer (a) => (c) { h = local.inner (a) c = local.inner (h) }
        """
    ),
    "Einsum of one": lambda: one('y = Einsum <equation = "ii->i"> (x)', "float[3, 3]"),
    "Einsum of four": lambda: one(
        'y = Einsum <equation = "ab,bc,cd,de->ae"> (x, u, v, w)',
        "float[2, 3]",
        u=ones(3, 4),
        v=ones(4, 5),
        w=ones(5, 6),
    ),
    "outer product by Einsum": lambda: one('y = Einsum <equation = "i,j->ij"> (x, w)', "float[2]", w=ones(3)),
    "nothing to multiply": lambda: one("y = MatMul (x, w)", "float[2, 4]", w=ones(4, 0)),
    "a vector by a batch of matrices": lambda: one("y = MatMul (w, x)", "float[5, 4, 3]", w=ones(4)),
    "transposed convolution of a given size": lambda: one(
        "y = ConvTranspose <strides = [2, 2], output_shape = [17, 17]> (x, w)", w=ones(4, 3, 3, 3)
    ),
    "causal attention": lambda: attention(
        "y = Attention <is_causal = 1> (q, k, v)", *(f"float[2, 6, 8, 4] {name}" for name in "qkv")
    ),
    "QGemm": lambda: one(
        "a = QuantizeLinear (x, s, z) y = com.microsoft.QGemm <transB = 1> (a, s, z, q, s, z, b, s, z)",
        "float[2, 4]",
        q=np.ones((3, 4), UINT8),
        b=np.ones(3, np.int32),
        **SCALES,
    ),
    "a loop": zoo.loop,
    "a scan": zoo.scan,
    "functions": zoo.functions,
    "a branch that a constant chooses": lambda: zoo.branches("yes"),
    "a branch that an input chooses": zoo.branches,
    "quantized weights": zoo.quantized,
    **{
        f"{op} {direction}, {'all' if optional else 'no'} optional inputs": (
            lambda op=op, direction=direction, optional=optional: recurrent(op, direction, optional=optional)
        )
        for op in ("LSTM", "GRU", "RNN")
        for direction in ("forward", "reverse", "bidirectional")
        for optional in (False, True)
    },
}
