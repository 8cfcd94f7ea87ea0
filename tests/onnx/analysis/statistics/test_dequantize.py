"""Dequantized weights, compared with ONNX runtimes and with formulas."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from modelsurgeon.onnx.analysis.statistics import dequantize
from tests import zoo

RNG = np.random.default_rng(0)


def last(model: ir.Model) -> ir.Node:
    return list(model.graph)[-1]


@pytest.mark.parametrize(
    ("weight", "scale", "zero", "axis"),
    [
        ((4, 6), (), (), 1),
        ((4, 6), (6,), (6,), 1),
        ((4, 6), (4,), (4,), 0),
        ((4, 6), (4,), (4,), -2),
        ((3, 2, 2), (2,), (2,), 1),
    ],
)
def test_per_tensor_and_per_axis_scales(
    weight: tuple[int, ...], scale: tuple[int, ...], zero: tuple[int, ...], axis: int
) -> None:
    arrays = {
        "q": RNG.integers(-128, 127, weight).astype(np.int8),
        "s": RNG.uniform(0.1, 1, scale).astype(np.float32),
        "z": RNG.integers(-5, 5, zero).astype(np.int8),
    }
    model = zoo.model(
        f"g (float[4, 6] x) => (float y) {{ w = DequantizeLinear <axis = {axis}> (q, s, z) y = Add (x, w) }}",
        opset=19,
        **arrays,
    )
    found = dequantize.dequantized_input(last(model), 1)
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis)
    (true,) = ReferenceEvaluator(node).run(None, arrays)
    assert found is not None
    np.testing.assert_allclose(found, true, rtol=1e-6)


def test_blockwise_scales() -> None:
    arrays = {
        "q": RNG.integers(-8, 7, (6, 4)).astype(ml_dtypes.int4),
        "s": RNG.uniform(0.1, 1, (3, 4)).astype(np.float32),
    }
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=2)
    found = dequantize.dequantized_constant(_value(node, arrays))
    assert found is not None
    np.testing.assert_allclose(found, arrays["q"].astype(np.float32) * np.repeat(arrays["s"], 2, axis=0))


def _value(node: object, arrays: dict[str, np.ndarray]) -> ir.Value:
    """The output of one node over initializers."""
    values = {
        name: ir.Value(name=name, const_value=ir.Tensor(array, ir.DataType.INT4 if name == "q" else None))
        for name, array in arrays.items()
    }
    made = ir.from_proto(node)
    new = ir.Node("", made.op_type, list(values.values()), list(made.attributes.values()))
    ir.Graph(
        [], new.outputs, nodes=[new], initializers=list(values.values()), name="g", opset_imports={"": 21}
    )
    return new.outputs[0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_zeros", [False, True])
def test_packed_blocks_equal_the_weight_in_onnxruntime(bits: int, with_zeros: bool) -> None:
    inner, outer, block = 40, 5, 16
    blocks = -(-inner // block)
    arrays = {
        "b": RNG.integers(0, 255, (outer, blocks, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.1, 1, outer * blocks).astype(np.float32),
    }
    if with_zeros:
        arrays["z"] = RNG.integers(0, 255, outer * -(-blocks * bits // 8)).astype(np.uint8)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *arrays],
        ["y"],
        domain="com.microsoft",
        K=inner,
        N=outer,
        bits=bits,
        block_size=block,
    )
    proto = helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [inner, inner])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [inner, outer])],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (true,) = session.run(None, {"x": np.eye(inner, dtype=np.float32)})
    found = dequantize.dequantized_input(last(ir.from_proto(proto)), 1)
    assert found is not None
    assert np.linalg.norm(found - true) <= 1e-5 * np.linalg.norm(true)


def test_weight_of_qlinearconv() -> None:
    weight, scale = RNG.integers(0, 255, (3, 2, 1, 1)).astype(np.uint8), np.array([0.5, 2, 3], np.float32)
    model = zoo.model(
        """
        g (uint8[1, 2, 4, 4] x) => (uint8[1, 3, 4, 4] y) { y = QLinearConv (x, xs, xz, w, ws, wz, ys, yz) }
        """,
        w=weight,
        ws=scale,
        wz=np.uint8(7),
        **dict.fromkeys(("xs", "ys"), np.float32(1)),
        **dict.fromkeys(("xz", "yz"), np.uint8(0)),
    )
    found = dequantize.dequantized_input(last(model), 3)
    assert found is not None
    np.testing.assert_allclose(found, (weight.astype(np.float32) - 7) * scale.reshape(3, 1, 1, 1))


def test_per_column_scales_of_a_matrix() -> None:
    weight, scale = RNG.integers(-9, 9, (4, 3)).astype(np.int8), np.array([1, 2, 3], np.float32)
    model = zoo.model(
        "g (float[2, 4] x) => (float[2, 3] y) { y = com.microsoft.DynamicQuantizeMatMul (x, w, s) }",
        w=weight,
        s=scale,
    )
    found = dequantize.dequantized_input(last(model), 1)
    assert found is not None
    np.testing.assert_allclose(found, weight * scale)


def test_a_computed_weight_gives_none() -> None:
    model = zoo.model("g (float[2, 4] x, float[4, 3] w) => (float y) { y = MatMul (x, w) }")
    assert dequantize.dequantized_input(last(model), 1) is None
