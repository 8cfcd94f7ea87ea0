"""Moments compared with numpy on all rows at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.calibration.moments import MomentCollector, Moments, is_measured_by_outputs
from modelsurgeon.layers import Layer
from tests import conv
from tests.strategies import layers

RNG = np.random.default_rng(5)


@given(rows=st.integers(0, 20), cut=st.integers(0, 20), columns=st.integers(1, 5), seed=st.integers(0, 99))
def test_moments_of_parts_add_up(rows: int, cut: int, columns: int, seed: int) -> None:
    x = 3 + np.random.default_rng(seed).normal(size=(rows, columns))
    parts = Moments.of(x[:cut]) + Moments.of(x[cut:])
    assert parts.count == rows
    np.testing.assert_allclose(parts.total, x.sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(parts.product, x.T @ x, atol=1e-9)
    if rows:
        np.testing.assert_allclose(
            parts.covariance, np.cov(x.T, bias=True).reshape(columns, columns), atol=1e-9
        )


@given(layer=layers())
def test_moments_of_all_positions_are_exact(layer: Layer) -> None:
    x = RNG.normal(size=(3, layer.in_channels, *conv.sizes(layer))).astype(np.float32)
    watch = MomentCollector(layer, 3)
    for sample in x:
        watch.add(sample[None])
    seen = watch.moments()
    rows = np.moveaxis(x, 1, -1).reshape(-1, layer.in_channels).astype(np.float64)
    if seen.response:
        parts = zip(np.split(rows, layer.groups, axis=1), np.split(layer.weight, layer.groups), strict=True)
        rows = np.concatenate([part @ w.reshape(len(w), -1).T for part, w in parts], axis=1)
    for moments, part in zip(seen.channels, np.split(rows, layer.groups, axis=1), strict=True):
        assert moments.count == len(part)
        np.testing.assert_allclose(moments.second, part.T @ part / len(part), rtol=1e-4, atol=1e-5)
    assert len(seen.taps) == (0 if layer.transposed else len(layer.kernel))


def test_wide_matrices_are_measured_by_outputs() -> None:
    assert is_measured_by_outputs(Layer(weight=np.ones((3, 4, 1, 1))))
    assert not is_measured_by_outputs(Layer(weight=np.ones((4, 3))))
    assert not is_measured_by_outputs(Layer(weight=np.ones((3, 4, 3, 3))))


def test_taps_hold_correlations_of_neighbors() -> None:
    layer = Layer(weight=np.ones((2, 1, 3)))
    watch = MomentCollector(layer, 1)
    watch.add(np.repeat(RNG.normal(size=(1, 1, 500)), 2, axis=2).astype(np.float32))  # every number twice
    [taps] = watch.moments().taps
    alike = taps / taps[0, 0]
    assert 0.4 < alike[0, 1] < 0.6 and abs(alike[0, 2]) < 0.1
