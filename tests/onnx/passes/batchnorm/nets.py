"""Small graphs with a batch norm next to other operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tests import zoo

STATS = "scale, shift, mean, var"


NORM = f"BatchNormalization (c, {STATS})"


MAPS, ROWS = "float[2, 4, 6, 6] x", "float[N, 4] x"


def weights(channels: int = 4, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Params of a batch norm, and Gaussian weights of these shapes."""
    draw = np.random.default_rng(channels)
    made = dict(zip(("scale", "shift", "mean"), draw.normal(size=(3, channels)), strict=True))
    made |= {"var": draw.gamma(2, size=channels)} | {n: draw.normal(size=s) for n, s in shapes.items()}
    return {name: array.astype(np.float32) for name, array in made.items()}


CONV = weights(w=(4, 4, 3, 3), b=(4,), k=(1, 4, 1, 1))


def net(body: str, x: str = MAPS, *, opset: int = 17, **arrays: np.ndarray) -> ir.Model:
    return zoo.model(f"g ({x}) => (float y) {{ {body} }}", opset=opset, **arrays)


def ops(model: ir.Model) -> str:
    return " ".join(node.op_type for node in model.graph)
