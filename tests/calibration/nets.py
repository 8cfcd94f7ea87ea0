"""A small net for calibration, and image-like samples."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tests.zoo import model


def pictures(count: int, seed: int) -> np.ndarray:
    """Image-like samples: combinations of six smooth patterns, plus noise."""
    rng = np.random.default_rng(seed)
    causes = np.random.default_rng(0).normal(size=(6, 8, 3, 3))
    coarse = np.einsum("nc,cihw->nihw", rng.normal(size=(count, 6)), causes)
    return np.kron(coarse, np.ones((4, 4))).astype(np.float32) + 0.1 * rng.normal(
        size=(count, 8, 12, 12)
    ).astype(np.float32)


def ending(end: str) -> ir.Model:
    """A net of four layers. end: the nodes that compute y from z, the output of the last."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)

    return model(
        f"""g (float[N, 8, 12, 12] x) => (float[N, 10] y) {{
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            p = Relu (a)
            b = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (p, w2, b2)
            q = Relu (b)
            c = Conv <pads = [1, 1, 1, 1]> (q, w3, b3)
            r = Relu (c)
            f = Flatten (r)
            z = Gemm <transB = 1> (f, w4, b4)
            {end}
        }}""",
        w1=weight(32, 8, 3, 3),
        w2=weight(48, 32, 3, 3),
        w3=weight(48, 48, 3, 3),
        w4=weight(10, 48 * 36),
        b1=0.1 * weight(32, 1)[:, 0],
        b2=0.1 * weight(48, 1)[:, 0],
        b3=0.1 * weight(48, 1)[:, 0],
        b4=0.1 * weight(10, 1)[:, 0],
    )
