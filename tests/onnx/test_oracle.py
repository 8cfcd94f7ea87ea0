"""The counted MACs of the trap models equal those that onnxruntime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.onnx.info import analyze
from tests import macs
from tests.traps import TRAPS


def feed(model: ir.Model) -> dict[str, np.ndarray]:
    """Zeros for all inputs: conditions are false, which selects the costlier branch."""
    return {
        str(value.name): np.zeros(tuple(value.shape.numpy()), value.dtype.numpy())
        for value in model.graph.inputs
        if value.shape is not None and value.dtype is not None
    }


@pytest.mark.parametrize("name", TRAPS)
def test_macs_equal_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    model = TRAPS[name]()
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
    kernels = macs.ran(ir.to_proto(model), feed(model), tmp_path)
    found = analyze(model)
    assert found.totals.macs == macs.macs(kernels)
    assert not found.uncounted
    assert all(shape is not None for row in found.layers for shape in row.output_shapes)
