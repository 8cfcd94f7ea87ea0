"""The models of onnx's own test-suite: none may end an analysis, and no shape may be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from modelsurgeon.onnx.analysis import analyze
from modelsurgeon.onnx.shapes import bound, data_inputs, sizes

MODELS = os.environ.get("MODELSURGEON_MODELS")
CASES = sorted(Path(MODELS).rglob("backend/test/data/*/*/model.onnx")) if MODELS else []

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with onnx's test models"),
]


def array(path: Path) -> np.ndarray | None:
    """The tensor in a file; None if there is none, or a sequence."""
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(proto)
    except (OSError, DecodeError, TypeError, ValueError):
        return None


def test_every_model_is_analyzed() -> None:
    for path in CASES:
        found = analyze(ir.load(path))
        assert found.totals.nodes == len(found.layers), path
        assert all(table.text(80) for table in found.tables()), path


def test_no_shape_is_wrong() -> None:
    known = 0
    for path in CASES:
        model, data = ir.load(path), path.parent / "test_data_set_0"
        given = {value.name: array(data / f"input_{i}.pb") for i, value in enumerate(data_inputs(model))}
        measured = bound(model, {name: found.shape for name, found in given.items() if found is not None})
        for i, value in enumerate(measured.graph.outputs):
            truth, shape = array(data / f"output_{i}.pb"), sizes(value)
            if truth is not None and shape is not None and isinstance(value.type, ir.TensorType):
                assert shape == truth.shape, (path, value.name)
                known += 1
    assert known > len(CASES) / 2
