"""Small ONNX models, each with one feature of real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
from numpy.typing import ArrayLike

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def model(text: str, *, opset: int = 17, version: int = 8, **weights: ArrayLike) -> ir.Model:
    """A model from ONNX text: a graph, then functions if any; `weights` become initializers."""
    imports = f'"" : {opset}, "com.microsoft" : 1, "local" : 1'
    proto = onnx.parser.parse_model(f"<ir_version: {version}, opset_import: [{imports}]>\n{text}")
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()
    )
    return ir.from_proto(proto)


def ones(*shape: int) -> np.ndarray:
    """A weight of this shape."""
    return np.ones(shape, np.float32)


def light(name: str) -> Path:
    """A classic net that comes with the onnx package; its weights are ConstantOfShape."""
    return LIGHT / f"light_{name}.onnx"


def classifier() -> ir.Model:
    """Strided, depthwise and 1 x 1 convolutions, batch norm, pooling, a dense layer; open sizes."""
    return model(
        """
        g (float[N, 3, H, W] x) => (float[N, 10] y) {
            a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1, b1)
            n = BatchNormalization (a, scale, shift, mean, var)
            r = Relu (n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv <group = 8, pads = [1, 1, 1, 1]> (p, w2)
            e = Conv (d, w3)
            q = GlobalAveragePool (e)
            f = Flatten (q)
            y = Gemm <transB = 1> (f, w4, b4)
        }
        """,
        w1=ones(8, 3, 3, 3),
        b1=ones(8),
        scale=ones(8),
        shift=ones(8),
        mean=ones(8),
        var=ones(8),
        w2=ones(8, 1, 3, 3),
        w3=ones(16, 8, 1, 1),
        w4=ones(10, 16),
        b4=ones(10),
    )


def branches(condition: str = "c") -> ir.Model:
    """An If whose branches use different weights and have one output shape; `condition` may be constant."""
    return model(
        f"""
        g (float[2, 4] x, bool c) => (float[2, 3] y) {{
            yes = Constant <value = bool {{1}}> ()
            y = If ({condition}) <
                then_branch = cheap () => (float[2, 3] a) {{ a = MatMul (x, w1) }},
                else_branch = dear () => (float[2, 3] b) {{ h = MatMul (x, w2) b = MatMul (h, w3) }}
            >
        }}
        """,
        w1=ones(4, 3),
        w2=ones(4, 5),
        w3=ones(5, 3),
    )


def loop(trips: str = "five", goes_on: str = "i", body: str = "z = MatMul (s, w)") -> ir.Model:
    """A Loop that multiplies its state by one weight, 5 times unless `trips` is the input n."""
    return model(
        f"""
        g (float[2, 4] x, int64 n) => (float y) {{
            five = Constant <value = int64 {{5}}> ()
            yes = Constant <value = bool {{1}}> ()
            y = Loop ({trips}, yes, x) <
                body = b (int64 k, bool i, float[2, 4] s) => (bool o, float z) {{
                    {body} o = Identity ({goes_on})
                }}
            >
        }}
        """,
        w=ones(4, 4),
    )


def scan() -> ir.Model:
    """A Scan that multiplies each of 7 rows by one weight."""
    return model(
        """
        g (float[7, 4] x) => (float[7, 3] y) {
            y = Scan <num_scan_inputs = 1, body = b (float[4] r) => (float[3] s) { s = MatMul (r, w) }> (x)
        }
        """,
        w=ones(4, 3),
    )


def functions() -> ir.Model:
    """A model-local function with a weight inside, called at two sizes."""
    return model(
        """
        g (float[2, 4] x, float[6, 4] z) => (float[2, 4] y, float[6, 4] v) {
            y = local.twice (x)
            v = local.twice (z)
        }
        <domain: "local", opset_import: ["" : 17]>
        twice (a) => (c) {
            n = Constant <value = int64[2] {4, 4}> ()
            w = ConstantOfShape <value = float[1] {2.0}> (n)
            b = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()
            h = MatMul (a, w)
            c = Add (h, b)
        }
        """
    )


def padded(opset: int = 17) -> ir.Model:
    """A Pad whose sizes are computed from constants, as exporters do: 2 on both sides of the last axis."""
    return model(
        """
        g (float[N, 6] x) => (float y) {
            sides = Constant <value = int64[2] {2, 2}> ()
            two = Constant <value = int64[1] {2}> ()
            rest = ConstantOfShape <value = int64[1] {0}> (two)
            all = Concat <axis = 0> (sides, rest)
            pairs = Constant <value = int64[2] {-1, 2}> ()
            table = Reshape (all, pairs)
            first = Constant <value = int64[1] {-1}> ()
            last = Constant <value = int64[1] {-9223372036854775807}> ()
            zero = Constant <value = int64[1] {0}> ()
            turned = Slice (table, first, last, zero, first)
            columns = Transpose <perm = [1, 0]> (turned)
            flat = Reshape (columns, first)
            y = Pad (x, flat)
        }
        """,
        opset=opset,
    )


def quantized() -> ir.Model:
    """A dense layer whose int8 weight (a scale per channel) and int32 bias are dequantized."""
    return model(
        """
        g (float[2, 4] x) => (float[2, 3] y) {
            w = DequantizeLinear <axis = 1> (wq, ws, wz)
            b = DequantizeLinear (bq, bs)
            y = Gemm (x, w, b)
        }
        """,
        wq=np.ones((4, 3), np.int8),
        ws=ones(3),
        wz=np.zeros(3, np.int8),
        bq=np.ones(3, np.int32),
        bs=np.float32(0.5),
    )


RNG = np.random.default_rng(7)


def lowish(out: int, into: int, *kernel: int) -> np.ndarray:
    """A weight with most energy in few directions, as in trained layers."""
    left = RNG.normal(size=(out, into)) * 0.7 ** np.arange(into)
    return (left @ RNG.normal(size=(into, into * int(np.prod(kernel))))).reshape(out, into, *kernel).astype(
        "f4"
    ) / into
