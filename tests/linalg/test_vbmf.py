"""EVBMF on a low-rank signal plus white noise, on an exact low rank and on zeros."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.layers import Array
from modelsurgeon.linalg import evbmf
from modelsurgeon.linalg.vbmf import threshold


def values(matrix: Array) -> Array:
    return np.linalg.svd(matrix, compute_uv=False)


@given(
    rows=st.integers(40, 80),
    wider=st.integers(0, 150),
    rank=st.integers(0, 12),
    noise=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rank_of_a_signal_in_noise_of_any_scale(
    rows: int, wider: int, rank: int, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (rows, rows + wider)
    left, right = (np.linalg.qr(rng.normal(size=(side, rank)))[0] for side in shape)
    matrix = rng.normal(size=shape) + 2 * np.sqrt(shape).sum() * left @ right.T
    assert evbmf(values(noise * matrix), shape[1]) == rank


def test_the_threshold_is_that_of_the_paper() -> None:
    tau = 2.5129  # of a square matrix, section 4
    assert threshold(1.0) == pytest.approx((1 + tau) * (1 + 1 / tau), rel=1e-4)
    assert threshold(0.1) > (1 + np.sqrt(0.1)) ** 2  # edge of the noise spectrum (Marchenko and Pastur)


def test_an_exact_low_rank_and_zeros() -> None:
    rng = np.random.default_rng(0)
    assert evbmf(values(rng.normal(size=(50, 7)) @ rng.normal(size=(7, 80))), 80) == 7
    assert evbmf(np.zeros(5), 9) == 0
    assert evbmf(np.zeros(0), 3) == 0
