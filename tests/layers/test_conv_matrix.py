"""Convolution matrix and im2col, compared with the definition and with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import modelsurgeon as ms
from modelsurgeon.layers import Layer
from modelsurgeon.onnx import run
from tests import conv, zoo
from tests.strategies import layers

RNG = np.random.default_rng(3)


def sample(layer: Layer, n: int = 7) -> np.ndarray:
    return RNG.normal(size=(layer.in_channels, *conv.sizes(layer, n)))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.linalg.norm(a - b)) <= 1e-12 * max(1.0, float(np.linalg.norm(b)))


def unbiased(layer: Layer) -> Layer:
    return Layer(**{**vars(layer), "bias": None})


@given(layer=layers())
def test_the_matrix_times_a_map_is_the_convolution(layer: Layer) -> None:
    x = sample(layer)
    y = conv.run([unbiased(layer)], x)
    matrix = ms.conv_matrix(layer, x.shape[1:])
    assert matrix.shape == (y.size, x.size)
    assert close(matrix @ x.ravel(), y.ravel())


@given(layer=layers())
def test_the_weight_times_its_columns_is_the_convolution(layer: Layer) -> None:
    x = sample(layer)
    y = conv.run([unbiased(layer)], x)
    columns = ms.im2col(layer, x)
    weight = layer.weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)
    assert close((weight @ columns).reshape(y.shape), y)


@given(layer=layers())
def test_nonzeros_are_at_most_the_macs(layer: Layer) -> None:
    size = conv.sizes(layer)
    assert ms.conv_matrix(layer, size).nnz <= layer.macs(size)


def test_the_matrix_agrees_with_onnxruntime() -> None:
    weight = RNG.normal(size=(6, 2, 3, 2)).astype(np.float32)
    model = zoo.model(
        "g (float[1, 4, 9, 8] x) => (float y) "
        "{ y = Conv <group = 2, strides = [2, 1], dilations = [1, 2], pads = [1, 0, 2, 1]> (x, w) }",
        w=weight,
    )
    x = RNG.normal(size=(1, 4, 9, 8)).astype(np.float32)
    y = run.runner(model, optimize=False)({"x": x})["y"]
    layer = Layer(weight=weight, groups=2, stride=(2, 1), dilation=(1, 2), padding=((1, 2), (0, 1)))
    got = ms.conv_matrix(layer, (9, 8)) @ x.ravel()
    assert np.linalg.norm(got - y.ravel()) < 1e-6 * np.linalg.norm(y)


@pytest.mark.parametrize("size", [(5,), (5, 5, 5)])
def test_a_size_of_wrong_length_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one number per axis of the kernel"):
        ms.conv_matrix(Layer(weight=np.ones((2, 2, 3, 3))), size)


def test_a_map_smaller_than_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="give a larger one"):
        ms.conv_matrix(Layer(weight=np.ones((2, 2, 3, 3))), (2, 5))


def test_im2col_refuses_wrong_channels() -> None:
    with pytest.raises(ValueError, match=r"\(2, \*size\) is needed"):
        ms.im2col(Layer(weight=np.ones((2, 2, 3, 3))), np.ones((3, 5, 5)))
