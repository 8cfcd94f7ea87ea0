"""The noise floor comes from an execution that rounds in another order."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.onnx import run
from modelsurgeon.onnx.run.noise_floor import other_execution
from tests.zoo import model

RNG = np.random.default_rng(6)


@pytest.fixture(scope="module")
def net() -> ir.Model:
    """Optimized, the norm is folded into the convolution, which rounds its weights once more."""
    parts = {name: RNG.uniform(0.5, 2, size=16).astype(np.float32) for name in ("g", "h", "m", "v")}
    return model(
        """g (float[N, 8, 9, 9] x) => (float[N, 16, 9, 9] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            y = BatchNormalization (a, g, h, m, v)
        }""",
        w=RNG.normal(size=(16, 8, 3, 3)).astype(np.float32),
        **parts,
    )


@pytest.mark.parametrize("optimize", [True, False])
def test_the_other_execution_rounds_in_another_way(net: ir.Model, optimize: bool) -> None:
    feed = {"x": RNG.normal(size=(2, 8, 9, 9)).astype(np.float32)}
    ours = np.asarray(run.runner(net, optimize=optimize)(feed)["y"])
    theirs = np.asarray(other_execution(net, optimize=optimize)(feed)["y"])
    assert (ours != theirs).any()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    same = np.asarray(run.runner(net, optimize=not optimize)(feed)["y"])
    np.testing.assert_allclose(theirs, same, rtol=1e-6, atol=1e-6)
