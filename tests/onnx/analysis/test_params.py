"""Params: every weight in initializers and nodes counts once, without a read of its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.onnx.analysis.params import Param, nbytes, params
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.shapes import bound
from tests import zoo


def found(model: ir.Model) -> list[Param]:
    whole = bound(model)
    return params(whole, constant_values(whole))


def elements(model: ir.Model) -> int:
    return sum(param.elements for param in found(model))


ADD = "g (float[2, 3] x) => (float y) {{ {} y = Add (x, w) }}"


@pytest.mark.parametrize(
    ("weight", "count"),
    [
        ("w = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()", 6),
        ("w = Constant <value_floats = [1.0, 2.0, 3.0]> ()", 3),
        ("w = Constant <value_float = 1.0> ()", 0),
        ("w = Constant <value = float[1] {1.0}> ()", 1),
        ("n = Constant <value = int64[2] {2, 3}> () w = ConstantOfShape <value = float[1] {1}> (n)", 6),
        ("n = Constant <value = int64[2] {2, 3}> () w = ConstantOfShape (n)", 6),
        ("n = Shape (x) w = ConstantOfShape <value = float[1] {1}> (n)", 0),
        ("v = Constant <value = float[3] {1, 2, 3}> () i = Identity (v) w = Neg (i)", 3),
    ],
)
def test_weights_in_nodes(weight: str, count: int) -> None:
    assert elements(zoo.model(ADD.format(weight))) == count


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_in_initializers(dtype: type) -> None:
    text = "g (float[2, 3] x) => (float y) { c = CastLike (w, x) y = Add (x, c) }"
    [param] = found(zoo.model(text, w=np.ones(3, dtype)))
    assert (param.elements, param.bytes) == (3, 3 * np.dtype(dtype).itemsize)
    assert param.node.op_type == "CastLike"


def test_shapes_and_indices_are_not_params() -> None:
    built = zoo.model(
        "g (float[2, 3] x) => (float y) { r = Reshape (x, n) y = Gather (r, i) }",
        n=np.array([3, 2]),
        i=np.array([0, 1, 1], np.int32),
    )
    assert elements(built) == 0


def test_a_shared_weight_counts_once() -> None:
    built = zoo.model(
        "g (float[2, 3] x) => (float y) { a = MatMul (x, w) b = MatMul (a, w) y = MatMul (b, w) }",
        w=zoo.ones(3, 3),
    )
    [param] = found(built)
    assert param.elements == 9
    assert param.node.outputs[0].name == "a"


def test_an_unused_weight_is_not_counted() -> None:
    built = zoo.model("g (float[2, 3] x) => (float y) { y = Relu (x) }", w=zoo.ones(5))
    assert elements(built) == 0


def test_weights_in_branches_count_together_and_in_loops_once() -> None:
    assert elements(zoo.branches()) == 12 + 20 + 15
    assert elements(zoo.loop()) == 16
    assert elements(zoo.scan()) == 12


def test_weights_of_a_function_count_once() -> None:
    assert elements(zoo.functions()) == 16 + 4


def test_running_statistics_are_marked() -> None:
    whole = found(zoo.classifier())
    assert sum(param.elements for param in whole if param.statistic) == 16
    assert {param.value.name for param in whole if param.statistic} == {"mean", "var"}


def test_quantization_keeps_the_number_of_params() -> None:
    whole = found(zoo.quantized())
    assert sum(param.elements for param in whole) == 4 * 3 + 3
    assert sum(param.bytes for param in whole) == 4 * 3 + 3 * 4
    assert {param.node.op_type for param in whole} == {"Gemm"}


@pytest.mark.parametrize(
    ("node", "count"),
    [
        ("ConvInteger (x, w, z, z)", 8),
        ("QLinearConv (x, s, z, w, s, z, s, z, b)", 10),
    ],
)
def test_weights_of_quantized_operators(node: str, count: int) -> None:
    built = zoo.model(
        f"g (uint8[1, 1, 4, 4] x) => (y) {{ y = {node} }}",
        **{
            name: array
            for name, array in {
                "w": np.ones((2, 1, 2, 2), np.uint8),
                "z": np.uint8(0),
                "s": np.float32(1),
                "b": np.ones(2, np.int32),
            }.items()
            if name in node
        },
    )
    assert elements(built) == count


def test_packed_weights_count_unpacked_elements() -> None:
    built = zoo.model(
        """
        g (float[2, 64] x) => (float y) {
            y = com.microsoft.MatMulNBits <K = 64, N = 10, bits = 4, block_size = 32> (x, w, s)
        }
        """,
        w=np.zeros((10, 2, 16), np.uint8),
        s=zoo.ones(20),
    )
    [param] = found(built)
    assert (param.elements, param.bytes) == (640, 320)


def test_no_weight_is_read() -> None:
    """The data file doesn't exist."""
    built = zoo.model("g (float[2, 3] x) => (float y) { y = MatMul (x, w) }", w=zoo.ones(3, 4))
    built.graph.initializers["w"].const_value = ir.ExternalTensor(
        location="missing.bin",
        offset=0,
        length=48,
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape((3, 4)),
        name="w",
        base_dir=Path(__file__).parent,
    )
    assert elements(built) == 12


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (ir.DataType.FLOAT, 20),
        (ir.DataType.INT4, 3),
        (ir.DataType.BOOL, 5),
        (ir.DataType.STRING, None),
        (None, None),
    ],
)
def test_bytes_of_five_elements(dtype: ir.DataType | None, size: int | None) -> None:
    assert nbytes(5, dtype) == size
