"""Weights of ONNX nodes as layers: the (out, in) matrix, groups, geometry and role."""

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers.weight_axes import as_layer, role
from tests import zoo

RNG = np.random.default_rng(0)


def node(text: str, **weights: np.ndarray) -> tuple[ir.Node, int, np.ndarray]:
    """The last node of a graph, the index of its input `w`, and the array of `w`."""
    last = list(zoo.model(f"g (float[2, 4] x) => (float y) {{ {text} }}", **weights).graph)[-1]
    index = next(i for i, value in enumerate(last.inputs) if value is not None and value.name == "w")
    return last, index, weights["w"]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "shape", "groups", "outs"),
    [
        ("y = Gemm (x, w)", (4, 3), 1, lambda w: w.T),
        ("y = Gemm <transB = 1> (x, w)", (3, 4), 1, lambda w: w),
        ("y = Gemm (w, x)", (3, 2), 1, lambda w: w),
        ("y = Gemm <transA = 1> (w, x)", (2, 3), 1, lambda w: w.T),
        ("y = MatMul (x, w)", (4, 3), 1, lambda w: w.T),
        ("y = MatMul (w, x)", (3, 2), 1, lambda w: w),
        ("y = MatMul (x, w)", (5, 4, 3), 5, lambda w: np.concatenate([m.T for m in w])),
        ("y = com.microsoft.FusedMatMul <transB = 1> (x, w)", (3, 4), 1, lambda w: w),
        ('y = Einsum <equation = "bi,io->bo"> (x, w)', (4, 3), 1, lambda w: w.T),
        ('y = Einsum <equation = "oi, bi -> bo"> (w, x)', (3, 4), 1, lambda w: w),
        ('y = Einsum <equation = "bi,iho->bho"> (x, w)', (4, 2, 3), 1, lambda w: w.reshape(4, 6).T),
        (
            'y = Einsum <equation = "gi,gio->go"> (x, w)',
            (2, 4, 3),
            2,
            lambda w: np.concatenate([m.T for m in w]),
        ),
        ("i = Constant <value = int64[1] {1}> () y = Gather (w, i)", (9, 4), 1, lambda w: w.T),
    ],
)
def test_a_weight_is_read_as_out_by_in(text: str, shape: tuple[int, ...], groups: int, outs: object) -> None:
    place = node(text, w=normal(*shape))
    layer = as_layer(*place)
    assert layer is not None
    assert layer.groups == groups
    np.testing.assert_array_equal(layer.weight, outs(place[2]))  # type: ignore[operator]


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_each_direction_of_a_recurrent_layer_is_a_group(op: str) -> None:
    weight = normal(2, 12, 4)
    last = list(
        zoo.model(
            f"g (float[5, 1, 4] x) => (float y) {{ y = {op} <hidden_size = 3> (x, w, r) }}",
            w=weight,
            r=normal(2, 12, 3),
        ).graph
    )[-1]
    layer = as_layer(last, 1, weight)
    assert layer is not None
    assert (layer.groups, layer.weight.shape) == (2, (24, 4))
    assert [role(last, index, layer) for index in (1, 2)] == ["W", "R"]


def test_a_convolution_keeps_its_geometry() -> None:
    layer = as_layer(
        *node("y = Conv <strides = [2, 1], dilations = [1, 3], group = 2> (x, w)", w=normal(4, 3, 3, 3))
    )
    assert layer is not None
    assert (layer.stride, layer.dilation, layer.groups, layer.transposed) == ((2, 1), (1, 3), 2, False)


def test_a_transposed_convolution_has_its_outputs_first() -> None:
    weight = normal(4, 3, 2)
    layer = as_layer(*node("y = ConvTranspose <strides = [2]> (x, w)", w=weight))
    assert layer is not None
    assert layer.transposed
    np.testing.assert_array_equal(layer.weight, weight.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("y = Mul (x, w)", (2, 4)),
        ("y = MatMul (x, w)", (4,)),
        ('y = Einsum <equation = "...i,io->...o"> (x, w)', (4, 3)),
        ('y = Einsum <equation = "ij,ij->ij"> (x, w)', (2, 4)),
        ("i = Constant <value = int64[1] {1}> () y = Gather <axis = 1> (w, i)", (9, 4)),
        ("y = Conv <group = 3> (x, w)", (4, 3, 3, 3)),
    ],
)
def test_a_weight_that_is_no_matrix_gives_no_layer(text: str, shape: tuple[int, ...]) -> None:
    assert as_layer(*node(text, w=normal(*shape))) is None


def test_roles_follow_from_the_operator() -> None:
    (norm,) = (n for n in zoo.classifier().graph if n.op_type == "BatchNormalization")
    assert [role(norm, index, None) for index in range(1, 5)] == ["scale", "bias", "mean", "variance"]
    (dense,) = (n for n in zoo.classifier().graph if n.op_type == "Gemm")
    assert role(dense, 2, None) == "bias"
    assert role(dense, 1, Layer(weight=np.ones((2, 2)))) == "weight"
