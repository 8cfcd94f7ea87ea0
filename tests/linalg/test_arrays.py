"""Scaling, norms and Cholesky factors, compared with numpy on the whole array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.linalg import cholesky, normalized, solve_factor, squared_norm, times_factor
from modelsurgeon.linalg.arrays import CACHE_BLOCK

RNG = np.random.default_rng(12)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_matrix_is_scaled_by_a_power_of_two(scale: float, sign: float) -> None:
    """Its largest entry is near 1 then, whichever sign it has."""
    matrix = (sign * scale * np.array([[3.0, 1.0], [0.1, 0.0]])).astype(np.float32)
    scaled, unit = normalized(matrix)
    np.testing.assert_array_equal(scaled.astype(np.float64) * unit, matrix)
    assert np.log2(unit) % 1 == 0
    assert 2.0**-20 <= np.abs(scaled).max() < 2.0**21
    assert (unit == 1.0) == (1e-6 < scale < 1e6)


def test_a_zero_matrix_is_left_as_it_is() -> None:
    assert normalized(np.zeros((2, 2)))[1] == normalized(np.zeros((0, 2)))[1] == 1.0


@pytest.mark.parametrize("size", [0, 1, CACHE_BLOCK - 1, CACHE_BLOCK, CACHE_BLOCK + 1, 2 * CACHE_BLOCK + 1])
def test_a_squared_norm_has_every_entry(size: int) -> None:
    assert squared_norm(np.full(size, 3.0, np.float16)) == 9 * size


def test_a_squared_norm_is_of_any_layout() -> None:
    matrix = RNG.normal(size=(40, 30))
    assert squared_norm(matrix.T) == pytest.approx(float(np.vdot(matrix, matrix)))
    assert squared_norm(matrix[::3, ::2]) == pytest.approx(float(np.square(matrix[::3, ::2]).sum()))


@given(size=st.integers(1, 6), scale=st.sampled_from([1e-6, 1.0, 1e6]), floor=st.sampled_from([1e-4, 0.5]))
def test_the_floor_of_a_cholesky_factor_is_a_share_of_the_mean_variance(
    size: int, scale: float, floor: float
) -> None:
    rows = scale * np.random.default_rng(size).normal(size=(50, size))
    covariance = rows.T @ rows / 50
    root = cholesky(covariance, floor)
    assert not np.triu(root, 1).any()
    raised = covariance + floor * np.trace(covariance) / size * np.eye(size)
    np.testing.assert_allclose(root @ root.T, raised, rtol=1e-9, atol=1e-9 * scale**2)


@pytest.mark.parametrize("below", [1e-9, 1e-6, 1e-3])
def test_an_indefinite_matrix_is_raised_no_further_than_needed(below: float) -> None:
    root = cholesky(np.diag([1.0, -below]), 1e-12)
    added = (root @ root.T)[0, 0] - 1
    assert below < added < 11 * below


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_factors_are_applied_and_undone_along_an_axis(axis: int) -> None:
    array = RNG.normal(size=(4, 5, 6))
    size = array.shape[axis]
    root = np.tril(RNG.normal(size=(size, size))) + 3 * np.eye(size)
    wanted = np.moveaxis(np.moveaxis(array, axis, -1) @ root, -1, axis)
    np.testing.assert_allclose(times_factor(array, root, axis), wanted)
    np.testing.assert_allclose(solve_factor(wanted, root, axis), array)
    other = np.moveaxis(np.moveaxis(array, axis, -1) @ root.T, -1, axis)
    np.testing.assert_allclose(solve_factor(other, root, axis, transposed=True), array)
