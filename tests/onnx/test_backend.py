"""The models of onnx's own test suite: every analysis succeeds and no shape is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import modelsurgeon as ms
from modelsurgeon.errors import SurgeryError
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, data_inputs, sizes
from tests import macs
from tests.onnx.backend_models import CASES, array

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with onnx's test models"),
]


def runs(path: Path) -> bool:
    """Whether onnxruntime loads the model, optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - onnxruntime has no common class of errors
        return False
    return True


@pytest.mark.slow
def test_models_that_onnxruntime_loads_are_accepted() -> None:
    """Uses `load` and `info`, which validate; an error other than SurgeryError fails the test."""
    for path in CASES:
        try:
            ms.info(ms.load(path))
        except SurgeryError as error:
            assert not runs(path), (path, error)


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


def feed(path: Path, model: ir.Model) -> dict[str, np.ndarray] | None:
    """The inputs that come with a test model; None if one is a sequence or missing."""
    data = path.parent / "test_data_set_0"
    given = {str(value.name): array(data / f"input_{i}.pb") for i, value in enumerate(data_inputs(model))}
    return None if any(found is None for found in given.values()) else given  # type: ignore[return-value]


@pytest.mark.slow
def test_macs_equal_those_of_onnxruntime(tmp_path: Path) -> None:
    """All models with MACs that onnxruntime runs; nodes with data-dependent sizes are uncounted."""
    ran = 0
    for path in CASES:
        proto, model = onnx.load(path), ir.load(path)
        given = feed(path, model)
        if given is None or not any(node.op_type in macs.MACS for node in model.graph.all_nodes()):
            continue
        for number, node in enumerate(proto.graph.node):
            node.name = f"n{number}"
        try:
            truth = macs.macs(macs.ran(proto, given, tmp_path))
        except Exception:  # noqa: BLE001, S112 - onnxruntime can't run this model
            continue
        found = analyze(model, shapes={name: each.shape for name, each in given.items()})
        assert found.totals.macs == truth or found.uncounted, path
        ran += found.totals.macs == truth
    assert ran > 80
