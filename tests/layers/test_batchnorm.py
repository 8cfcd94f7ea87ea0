"""Batch norm folding compared with the operators, over every geometry of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import modelsurgeon as ms
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.batchnorm import Affine, BatchNorm, fold_input_affine, fold_output_affine
from tests.conv import run, sizes
from tests.strategies import layers

SEEDS = st.integers(0, 2**32 - 1)


def norm(channels: int, seed: int = 0, dtype: type = np.float64) -> BatchNorm:
    draw = np.random.default_rng(seed)
    scale, shift, mean = draw.normal(size=(3, channels)).astype(dtype)
    return BatchNorm(scale=scale, shift=shift, mean=mean, var=draw.gamma(2, size=channels).astype(dtype))


def normalised(x: Array, norm: BatchNorm) -> Array:
    """Batch norm by its definition."""
    axes = (slice(None), *(None,) * (x.ndim - 1))
    centred = (x - norm.mean[axes]) / np.sqrt(norm.var[axes] + norm.epsilon)
    return norm.scale[axes] * centred + norm.shift[axes]


def maps(layer: Layer, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(layer.in_channels, *sizes(layer)))


def relative(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


@given(layers(), SEEDS)
def test_fold_norm_after_a_layer(layer: Layer, seed: int) -> None:
    after, x = norm(layer.out_channels, seed), maps(layer, seed)
    folded = fold_output_affine(layer, after.affine)
    assert relative(run([folded], x), normalised(run([layer], x), after)) < 1e-12
    assert folded.weight.dtype == layer.weight.dtype


@given(layers(), SEEDS)
def test_fold_norm_before_a_layer(layer: Layer, seed: int) -> None:
    before, x = norm(layer.in_channels, seed), maps(layer, seed)
    try:
        folded = fold_input_affine(layer, before.affine)
    except ms.UnsupportedLayer:
        assert layer.transposed or any(map(any, layer.padding))
        return
    assert relative(run([folded], x), run([layer], normalised(x, before))) < 1e-11


@given(layers(), SEEDS)
def test_without_offset_padding_is_allowed(layer: Layer, seed: int) -> None:
    draw = np.random.default_rng(seed)
    gain = Affine(gain=draw.normal(size=layer.in_channels), offset=np.zeros(layer.in_channels))
    x = maps(layer, seed)
    axes = (slice(None), *(None,) * (x.ndim - 1))
    assert relative(run([fold_input_affine(layer, gain)], x), run([layer], x * gain.gain[axes])) < 1e-11


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_transposed_layer_in_float32(groups: int) -> None:
    """Computed in float64 and rounded once."""
    draw = np.random.default_rng(groups)
    weight = draw.normal(size=(8, 8 // groups, 3, 3)).astype(np.float32)
    layer = Layer(weight=weight, groups=groups, transposed=True, stride=(2, 2), padding=((1, 1), (0, 1)))
    after, x = norm(8, groups, np.float32), maps(layer, 1)
    folded = fold_output_affine(layer, after.affine)
    assert folded.weight.dtype == np.float32
    assert relative(run([folded], x), normalised(run([layer], x), after)) < 5e-7


def dense(dtype: type = np.float32) -> Layer:
    return Layer(weight=np.ones((3, 2), dtype))


@pytest.mark.parametrize(
    ("part", "value"),
    [("var", -1.0), ("var", np.nan), ("scale", np.inf), ("mean", np.nan), ("shift", np.inf)],
)
def test_broken_statistics_are_refused(part: str, value: float) -> None:
    broken = norm(3)
    getattr(broken, part)[1] = value
    with pytest.raises(ms.UnsupportedLayer, match=r"broken.*bn sanitize"):
        _ = broken.affine


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [(dense(), 4, "4 channels, the layer gives 3"), (dense(np.float16), 3, "isn't finite in float16")],
)
def test_mismatch_and_overflow_raise(layer: Layer, channels: int, message: str) -> None:
    large = Affine(gain=np.full(channels, 1e6), offset=np.zeros(channels))
    with pytest.raises(ms.UnsupportedLayer, match=message):
        fold_output_affine(layer, large)


@pytest.mark.parametrize(("gain", "offset"), [((2, 2), (1, 1)), ((2, 3), (0, 0))])
def test_constants_equal_in_all_channels(gain: Sequence[float], offset: Sequence[float]) -> None:
    affine = Affine(gain=np.array(gain), offset=np.array(offset))
    assert_allclose(affine.of_constant(0.0), offset[0], rtol=1e-15)
    assert_allclose(affine.before_constant(affine.of_constant(0.0)), 0.0, atol=1e-15)


def test_unmappable_constants_are_refused() -> None:
    with pytest.raises(ms.UnsupportedLayer, match="differ from channel to channel"):
        Affine(gain=np.ones(2), offset=np.array([1.0, 2.0])).of_constant(0.0)
    with pytest.raises(ms.UnsupportedLayer, match="gain is 0"):
        Affine(gain=np.array([1.0, 0.0]), offset=np.zeros(2)).before_constant(1.0)


def test_a_zero_offset_adds_no_bias() -> None:
    assert fold_output_affine(dense(), Affine(gain=np.ones(3), offset=np.zeros(3))).bias is None


@pytest.mark.parametrize(("taps", "stride"), [(1, 2), (2, 1), (1, 1)])
def test_a_transposed_layer_takes_an_offset_only_where_every_output_has_all_taps(
    taps: int, stride: int
) -> None:
    """With one tap and stride 2, every other output has none: it is the bias alone."""
    draw = np.random.default_rng(2)
    layer = Layer(
        weight=draw.normal(size=(4, 3, taps)), bias=draw.normal(size=4), stride=(stride,), transposed=True
    )
    before = norm(3, 5)
    if taps == stride == 1:
        x = maps(layer, 0)
        assert (
            relative(run([fold_input_affine(layer, before.affine)], x), run([layer], normalised(x, before)))
            < 1e-12
        )
        return
    with pytest.raises(ms.UnsupportedLayer, match="not every output is a sum over all taps"):
        fold_input_affine(layer, before.affine)


@pytest.mark.parametrize("padding", [(0, 1), (1, 0)])
def test_an_offset_before_one_sided_padding_is_refused(padding: tuple[int, int]) -> None:
    layer = Layer(weight=np.ones((2, 3, 3)), padding=(padding,))
    with pytest.raises(ms.UnsupportedLayer, match="pads with zeros"):
        fold_input_affine(layer, norm(3).affine)


@pytest.mark.parametrize(("apart", "fits"), [(1e-8, True), (1e-5, False), (3e-4, False)])
def test_a_padding_constant_is_one_number_up_to_rounding(apart: float, fits: bool) -> None:
    affine = Affine(gain=np.ones(2), offset=np.array([1.0, 1.0 + apart]))
    if fits:
        assert affine.of_constant(2.0) == pytest.approx(3.0)
        return
    with pytest.raises(ms.UnsupportedLayer, match="differ from channel to channel"):
        affine.of_constant(2.0)
