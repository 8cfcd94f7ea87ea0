"""Singular values of convolutions compared with those of the dense matrix, with circular padding."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.inspection.statistics import conv_spectrum
from modelsurgeon.inspection.statistics.conv_spectrum import operator_norm, operator_spectrum
from modelsurgeon.inspection.statistics.spectrum import spectrum
from modelsurgeon.layers import Layer
from tests.strategies import layers


def dense(layer: Layer, size: tuple[int, ...]) -> np.ndarray:
    """Dense matrix of the convolution on input maps of this size, with circular padding."""
    fine = tuple(n * s for n, s in zip(size, layer.stride, strict=True)) if layer.transposed else size
    coarse = tuple(n // s for n, s in zip(fine, layer.stride, strict=True))
    shape = (layer.out_channels, *coarse, layer.in_channels, *fine)
    if layer.transposed:
        shape = (layer.out_channels, *fine, layer.in_channels, *coarse)
    matrix = np.zeros(shape)
    outs, ins = layer.out_channels // layer.groups, layer.weight.shape[1]
    for o, i, place, taps in product(
        range(layer.out_channels),
        range(ins),
        product(*map(range, coarse)),
        product(*map(range, layer.kernel)),
    ):
        at = tuple(
            (p * s + t * d) % n
            for p, s, t, d, n in zip(place, layer.stride, taps, layer.dilation, fine, strict=True)
        )
        source = o // outs * ins + i
        where = (o, *at, source, *place) if layer.transposed else (o, *place, source, *at)
        matrix[where] += layer.weight[(o, i, *taps)]
    rows = layer.out_channels * int(np.prod(shape[1 : 1 + len(size)]))
    return matrix.reshape(rows, -1)


def maps(layer: Layer, steps: int) -> tuple[int, ...]:
    """A map size divisible by the stride."""
    return tuple(s * steps for s in layer.stride)


@settings(max_examples=30)
@given(layer=layers(ndim=st.integers(1, 2)), steps=st.integers(1, 2))
def test_all_singular_values_are_those_of_the_dense_operator(layer: Layer, steps: int) -> None:
    size = maps(layer, steps)
    true = np.linalg.svd(dense(layer, size), compute_uv=False)
    found = operator_spectrum(layer, size)
    assert len(found) == len(true)
    assert np.linalg.norm(found - true) <= 1e-8 * true[0] * len(true)
    norm = operator_norm(layer, size)
    assert norm.exact
    assert norm.norm == pytest.approx(true[0], rel=1e-6)


@settings(max_examples=20)
@given(layer=layers(ndim=st.just(2), groups=st.just(1)))
def test_coarse_grid_error_is_within_slack(layer: Layer) -> None:
    size = maps(layer, 40)
    exact = operator_norm(layer, size).norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_spectrum, "MAX_EXACT_OPERATIONS", 0)
        found = operator_norm(layer, size)
    assert not found.exact
    assert exact <= found.norm * (1 + found.slack) * (1 + 1e-6)
    assert found.norm <= exact * (1.03 if found.slack else 1 + 1e-9)


def test_iteration_is_accurate_on_a_wide_layer() -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(48, 40, 3, 3)).astype(np.float32))
    exact = operator_spectrum(layer, (10, 10))[0]
    assert operator_norm(layer, (10, 10)).norm == pytest.approx(exact, rel=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_spectrum, "MAX_EXACT_OPERATIONS", 0)
        found = operator_norm(layer, (10, 10))
    assert not found.exact
    assert found.slack == 0
    assert 0.95 * exact <= found.norm <= 1.00001 * exact


def test_map_size_is_rounded_up_to_the_stride() -> None:
    layer = Layer(weight=np.ones((1, 1, 3, 3)), stride=(2, 3))
    assert operator_norm(layer, (7, 7)).size == (8, 9)


def test_a_1x1_kernel_has_its_matrix_norm() -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(5, 4, 1, 1)), stride=(2, 2))
    assert operator_norm(layer, (6, 6)).norm == pytest.approx(spectrum(layer).norm, rel=1e-9)


def test_nan_has_no_norm() -> None:
    with pytest.raises(UnsupportedLayer, match="NaN or Inf"):
        operator_norm(Layer(weight=np.full((1, 1, 3), np.nan)), (4,))
