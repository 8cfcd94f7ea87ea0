"""Activation-aware factorizations, with errors measured on the input rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import MomentCollector
from modelsurgeon.factorize import METHODS, compose, relative_error
from modelsurgeon.layers import Layer, chain_params
from modelsurgeon.layers.patches import output_positions, patches_at
from tests import conv
from tests.strategies import layers

RNG = np.random.default_rng(7)


def viewed(layer: Layer, x: np.ndarray) -> CalibratedLayer:
    watch = MomentCollector(layer, len(x))
    watch.add(x)
    return CalibratedLayer(layer=layer, inputs=watch.moments())


def lost(layer: Layer, chain: list[Layer], x: np.ndarray) -> float:
    """Relative error of the outputs on every patch, about the mean, which the bias corrects."""
    rows = patches_at(layer, x, np.arange(output_positions(layer, x)))
    parts = zip(
        np.split(rows, layer.groups, axis=1),
        np.split(layer.weight, layer.groups),
        np.split(compose(chain).weight, layer.groups),
        strict=True,
    )
    pairs = [(p @ w.reshape(len(w), -1).T, p @ (w - a).reshape(len(w), -1).T) for p, w, a in parts]
    centred = [(y - y.mean(axis=0), d - d.mean(axis=0)) for y, d in pairs]
    return float(np.sqrt(sum((d**2).sum() for _, d in centred) / sum((y**2).sum() for y, _ in centred)))


def coloured(channels: int, *size: int, samples: int = 64, rng: np.random.Generator = RNG) -> np.ndarray:
    """Samples with correlated channels of very different scale; positive, as after a ReLU."""
    mix = rng.normal(size=(channels, channels)) * 0.5 ** np.arange(channels)
    return np.abs(np.einsum("ij,nj...->ni...", mix, rng.normal(size=(samples, channels, *size)))) + 1


@settings(max_examples=40, deadline=None)
@given(layer=layers(), method=st.sampled_from(list(METHODS)), seed=st.integers(0, 99))
def test_full_rank_is_exact(layer: Layer, method: str, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(20, layer.in_channels, *conv.sizes(layer)))
    view = viewed(layer, x.astype(np.float32))
    chain = view.chain(method, METHODS[method].full_rank(layer))
    np.testing.assert_allclose(compose(chain).weight, layer.weight, atol=1e-5)
    assert chain_params(view.sketch(method, METHODS[method].full_rank(layer))) == chain_params(chain)


@pytest.mark.parametrize("shape", [(6, 12), (12, 6), (8, 8, 1, 1)])
def test_matrix_error_is_the_optimum(shape: tuple[int, ...]) -> None:
    layer = Layer(weight=RNG.normal(size=shape), bias=np.zeros(shape[0]))
    many = 40_000  # so that the sampling error of the covariance is small
    x = coloured(shape[1], *([1] * (len(shape) - 2)), samples=many, rng=np.random.default_rng(4))
    rows = x.reshape(many, -1) - x.reshape(many, -1).mean(axis=0)
    sigma = np.linalg.svd(rows @ layer.weight.reshape(shape[:2]).T, compute_uv=False)
    view = viewed(layer, x)
    for rank in (1, 3, 5):
        best = float(np.sqrt((sigma[rank:] ** 2).sum() / (sigma**2).sum()))
        chain = view.chain("svd", rank)
        assert lost(layer, chain, x) == pytest.approx(best, rel=0.03)
        assert view.error("svd", [rank])[0] == pytest.approx(best, rel=0.03)
        assert lost(layer, METHODS["svd"](layer, rank), x) > best


@pytest.mark.parametrize("method", ["svd", "spatial-svd", "tucker2", "cp"])
def test_kernel_error_is_lower_than_by_weight(method: str) -> None:
    rng = np.random.default_rng(2)
    layer = Layer(weight=rng.normal(size=(12, 8, 3, 3)), padding=((1, 1), (1, 1)))
    x = coloured(8, 9, 9, rng=rng)
    view = viewed(layer, x)
    for rank in (3, 6):
        aware = lost(layer, view.chain(method, rank), x)
        assert aware < 0.8 * lost(layer, METHODS[method](layer, rank), x)
        assert aware == pytest.approx(view.error(method, [rank])[0], rel=0.35)


def test_the_mean_error_goes_into_the_bias() -> None:
    layer = Layer(weight=RNG.normal(size=(6, 10)), bias=RNG.normal(size=6))
    x = coloured(10, samples=300)
    first, last = viewed(layer, x).chain("svd", 2)
    assert last.bias is not None
    before = x @ layer.weight.T + layer.bias
    after = x @ first.weight.T @ last.weight.T + last.bias
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), rtol=1e-4)


def test_a_matrix_without_bias_gets_none() -> None:
    layer = Layer(weight=RNG.normal(size=(6, 10)))
    assert viewed(layer, coloured(10)).chain("svd", 2)[-1].bias is None


def test_without_inputs_factors_are_the_plain_ones() -> None:
    layer = Layer(weight=RNG.normal(size=(6, 10)))
    ours, plain = CalibratedLayer(layer=layer).chain("svd", 2), METHODS["svd"](layer, 2)
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(ours, plain, strict=True))
    assert CalibratedLayer(layer=layer).error("svd", [2]) == METHODS["svd"].error(layer, [2])


@pytest.mark.parametrize(
    "x", [np.zeros((8, 6, 5, 5)), np.ones((8, 6, 5, 5)), 1e18 * coloured(6, 5, 5, samples=8)]
)
def test_zero_constant_and_huge_inputs_give_finite_factors(x: np.ndarray) -> None:
    layer = Layer(weight=RNG.normal(size=(6, 6, 3, 3)), padding=((1, 1), (1, 1)))
    for method in METHODS:
        chain = viewed(layer, x.astype(np.float32)).chain(method, 2)
        assert all(np.isfinite(link.weight).all() for link in chain)


def test_the_error_of_left_out_channels_is_that_of_the_chain() -> None:
    layer = Layer(weight=RNG.normal(size=(12, 8)), bias=np.zeros(12))
    x = coloured(8, samples=4000)
    view = viewed(layer, x)
    for rank in (2, 5):
        wanted = lost(layer, view.chain("channels", rank), x)
        assert view.error("channels", [rank])[0] == pytest.approx(wanted, rel=0.05)


def test_large_inputs_leave_float32_factors_in_range() -> None:
    """Whitened along every axis, the weight would overflow if the taps weren't scaled."""
    layer = Layer(weight=RNG.normal(size=(6, 6, 3, 3, 3)).astype(np.float32))
    x = 1e12 * coloured(6, 5, 5, 5, samples=8)
    view, plain = viewed(layer, x.astype(np.float32)), viewed(layer, (1e-12 * x).astype(np.float32))
    for method in ("svd", "spatial-svd", "tucker2"):
        assert view.error(method, [2]) == pytest.approx(plain.error(method, [2]), rel=1e-2)
        assert all(np.isfinite(link.weight).all() for link in view.chain(method, 2))


@pytest.mark.parametrize("method", ["svd", "spatial-svd"])
def test_of_one_channel_the_taps_give_the_optimum(method: str) -> None:
    """The patches are windows of smooth signals, whose correlations are all between taps."""
    rng = np.random.default_rng(5)
    layer = Layer(weight=rng.normal(size=(12, 1, 6)), bias=np.zeros(12))
    steps = rng.normal(size=(8, 1, 2000))
    x = np.stack([np.convolve(each[0], [0.1, 0.3, 0.5, 1, 0.5, 0.3, 0.1], "same")[None] for each in steps])
    view = viewed(layer, x.astype(np.float32))
    rows = patches_at(layer, x, np.arange(output_positions(layer, x)))
    outputs = (rows - rows.mean(axis=0)) @ layer.weight.reshape(12, -1).T
    sigma = np.linalg.svd(outputs, compute_uv=False)
    for rank in (1, 2, 3):
        best = float(np.sqrt((sigma[rank:] ** 2).sum() / (sigma**2).sum()))
        assert lost(layer, view.chain(method, rank), x) == pytest.approx(best, rel=0.02)
        assert view.error(method, [rank])[0] == pytest.approx(best, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_wide_matrix_error_is_that_of_the_chain(method: str) -> None:
    """Without input moments, methods that need them cut by weight and return the weight's error."""
    rng = np.random.default_rng(6)
    layer = Layer(weight=rng.normal(size=(6, 16)), bias=np.zeros(6))
    x = coloured(16, samples=4000, rng=rng)
    view = viewed(layer, x)
    for rank in (2, 4):
        chain = view.chain(method, rank)
        single = len(chain) == 2 and method != "channels"
        wanted = lost(layer, chain, x) if single else relative_error(layer, chain)
        assert view.error(method, [rank])[0] == pytest.approx(wanted, rel=0.1, abs=0.01)
