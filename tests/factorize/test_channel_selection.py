"""Channel selection compared with least squares and with all choices of one channel."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.factorize import METHODS
from modelsurgeon.factorize.channel_selection import (
    MAX_ELIMINATION_ROUNDS,
    best_weights,
    eliminate,
    selection,
)
from modelsurgeon.layers import Layer


def problem(n: int, seed: int, outputs: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated inputs, a matrix, and the inputs' second moments."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(4 * n, n)) @ draw.normal(size=(n, n))
    return x, draw.normal(size=(outputs, n)), x.T @ x / len(x)


def lost(x: np.ndarray, weight: np.ndarray, kept: np.ndarray) -> float:
    """Least mean squared error of the outputs from the kept inputs alone, by LAPACK's least squares."""
    y = x @ weight.T
    best = np.linalg.lstsq(x[:, kept], y, rcond=None)[0]
    return float(np.square(y - x[:, kept] @ best).sum() / len(x))


@given(n=st.integers(2, 12), seed=st.integers(0, 99), data=st.data())
def test_predicted_error_is_exact(n: int, seed: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, n))
    x, weight, gram = problem(n, seed)
    found = eliminate(weight, gram)
    kept = found.kept(rank)
    assert found.lost[rank] == pytest.approx(lost(x, weight, kept), rel=1e-6, abs=1e-9)
    ours = x @ weight.T - x[:, kept] @ best_weights(weight, gram, kept).T
    assert np.square(ours).sum() / len(x) == pytest.approx(found.lost[rank], rel=1e-6, abs=1e-9)


@given(n=st.integers(2, 9), seed=st.integers(0, 99))
def test_the_first_removal_is_optimal(n: int, seed: int) -> None:
    x, weight, gram = problem(n, seed)
    choices = [lost(x, weight, np.array(kept)) for kept in combinations(range(n), n - 1)]
    assert eliminate(weight, gram).lost[n - 1] == pytest.approx(min(choices), rel=1e-6, abs=1e-9)


def test_the_error_falls_with_every_channel_to_zero() -> None:
    x, weight, gram = problem(30, 1)
    curve = eliminate(weight, gram).lost
    assert (np.diff(curve) <= 1e-9).all()
    assert curve[30] == 0
    assert curve[0] == pytest.approx(np.square(x @ weight.T).sum() / len(x))


def test_with_large_rounds_prediction_is_an_upper_bound() -> None:
    n = 3 * MAX_ELIMINATION_ROUNDS
    x, weight, gram = problem(n, 2)
    found = eliminate(weight, gram)
    for rank in (n - 3, n - 4, n // 2, 5):
        assert lost(x, weight, found.kept(rank)) <= found.lost[rank] * (1 + 1e-6)
    assert lost(x, weight, found.kept(n // 2)) == pytest.approx(found.lost[n // 2], rel=0.05)


def test_a_duplicate_costs_nothing() -> None:
    x, weight, _ = problem(6, 3)
    x = np.hstack([x, x[:, :2]])
    weight = np.hstack([weight, weight[:, :2]])
    found = eliminate(weight, x.T @ x / len(x) + 1e-9 * np.eye(8))
    assert found.lost[6] < 1e-6 * found.lost[0]
    assert sorted(found.kept(6) % 6) == list(range(6))


def test_selection_takes_kept_channels() -> None:
    np.testing.assert_array_equal(selection(4, np.array([1, 3])) @ np.arange(4), [1, 3])


def test_without_data_least_norms_are_removed() -> None:
    layer = Layer(weight=np.diag([3.0, 1.0, 2.0]))
    first, last = METHODS["channels"](layer, 2)
    np.testing.assert_array_equal(first.weight, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(last.weight, [[3, 0], [0, 0], [0, 2]])
