"""Formulas of random chains of operators equal binding, and binding equals what onnxruntime runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings

from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.onnx.info import analyze
from tests.onnx.analysis.formulas.chains import WIDTH, chains
from tests.onnx.analysis.formulas.test_formulas import value

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 13, 20, 33)
KEYS = ("macs", "flops", "bias_adds", "activation_bytes")


def ran(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]] | None:
    """Shapes of all computed values; None where onnxruntime doesn't run the model at these sizes."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    names = [name for node in copy.graph.node for name in node.output]
    copy.graph.ClearField("output")
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, {"x": np.ones((sizes["N"], sizes["L"], WIDTH), np.float32)})
    except Exception:  # noqa: BLE001 - onnxruntime has no common error
        return None
    return {name: array.shape for name, array in zip(names, found, strict=True)}


def bound_to(model: onnx.ModelProto, sizes: Mapping[str, int]) -> Analysis | None:
    """The analysis at these sizes; None where a node can't run, as a pool whose map is below its window."""
    try:
        return analyze(ir.from_proto(model), dims=sizes)
    except UnknownShape:
        return None


def check_chain(model: onnx.ModelProto) -> int:
    """Compare at all sizes at which the model runs; returns the number of formulas compared."""
    found, compared = analyze(ir.from_proto(model)), 0
    for key in KEYS:
        assert key in found.formulas or any("no formula" in note and key in note for note in found.notes)
    for length in LENGTHS:
        sizes = {"N": 1 + length % 3, "L": length}
        shapes = ran(model, sizes)
        bound = None if shapes is None else bound_to(model, sizes)
        if shapes is None or bound is None:
            continue
        for node, row in zip(model.graph.node, bound.layers, strict=True):
            for name, shape in zip(node.output, row.output_shapes, strict=True):
                assert shape is None or tuple(shape) == shapes[name], (sizes, row.name)
        for key, formula in found.formulas.items():
            assert value(formula, sizes) == getattr(bound.totals, key), (sizes, key, formula)
            compared += 1
    return compared


@given(model=chains(longest=2))
@settings(max_examples=20)
def test_formulas_equal_binding_and_binding_what_runs(model: onnx.ModelProto) -> None:
    check_chain(model)


@pytest.mark.slow
@given(model=chains(longest=4))
@settings(max_examples=400)
def test_formulas_of_long_chains(model: onnx.ModelProto) -> None:
    check_chain(model)
