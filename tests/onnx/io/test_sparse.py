"""Sparse weights are read as dense; their bytes are those of the stored form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.io.files import from_proto


def sparse(indices: np.ndarray, values: np.ndarray, dims: tuple[int, ...] = (4, 3)) -> onnx.SparseTensorProto:
    """The weight w, with these values at these indices."""
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values, "w"), numpy_helper.from_array(indices, "w_indices"), dims
    )


def proto(weight: onnx.SparseTensorProto, *, constant: bool = False) -> ModelProto:
    """x times the weight, which is an initializer or a Constant."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=weight))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        sparse_initializer=[] if constant else [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FLAT = np.array([1, 5, 11])
PAIRS = np.array([[0, 1], [1, 2], [3, 2]])
VALUES = np.array([2, 3, 5], np.float32)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("indices", [FLAT, PAIRS])
def test_a_sparse_weight_is_read_as_dense(indices: np.ndarray, constant: bool) -> None:
    given = proto(sparse(indices, VALUES), constant=constant)
    before = given.SerializeToString()
    model = from_proto(given)
    assert given.SerializeToString() == before
    session = onnxruntime.InferenceSession(before, providers=["CPUExecutionProvider"])
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    [truth] = session.run(None, {"x": x})
    [made] = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"x": x})
    np.testing.assert_array_equal(made, truth)
    totals = analyze(model).totals
    assert (totals.macs, totals.params) == (2 * 4 * 3, 12)
    assert totals.param_bytes == VALUES.nbytes + indices.nbytes


DAMAGE: dict[str, Callable[[], onnx.SparseTensorProto]] = {
    r"an index outside of its shape \[4, 3\]": lambda: sparse(np.array([1, 5, 12]), VALUES),
    r"indices of shape \(2,\) for 3 values": lambda: sparse(FLAT[:2], VALUES),
    r"indices of shape \(3,\) for 3 values": lambda: sparse(FLAT.astype(np.int32), VALUES),
    r"the shape \[1000000, 1000000\]": lambda: sparse(FLAT, VALUES, (10**6, 10**6)),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_invalid_sparse_tensors_are_refused(problem: str) -> None:
    with pytest.raises(BadModel, match=problem):
        from_proto(proto(DAMAGE[problem]()))
