"""Counts, range, mean and deviation of an array, whole and in parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from modelsurgeon.inspection.statistics import spread as module
from modelsurgeon.inspection.statistics.spread import Spread, spread

NUMBERS = arrays(np.float32, array_shapes(max_dims=3, max_side=6))


@given(array=NUMBERS)
def test_agrees_with_numpy(array: np.ndarray) -> None:
    found, finite = spread(array), array[np.isfinite(array)].astype(np.float64)
    assert found.count == array.size
    assert found.nan == np.isnan(array).sum()
    assert found.inf == np.isinf(array).sum()
    assert found.zeros == (array == 0).sum()
    assert found.finite == finite.size
    if finite.size:
        assert (found.low, found.high) == (finite.min(), finite.max())
        assert found.peak == np.abs(finite).max()
        assert found.mean == pytest.approx(finite.mean(), rel=1e-12, abs=1e-12 * found.peak)
        assert found.std == pytest.approx(finite.std(), rel=1e-9, abs=1e-12 * found.peak)


@given(whole=NUMBERS, data=st.data())
def test_parts_add_up_to_the_whole(whole: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    parts, found = spread(whole[:cut]) + spread(whole[cut:]), spread(whole)
    assert (parts.count, parts.zeros, parts.nan, parts.inf) == (
        found.count, found.zeros, found.nan, found.inf,
    )  # fmt: skip
    assert (parts.low, parts.high) == (found.low, found.high)
    assert parts.mean == pytest.approx(found.mean, rel=1e-9, abs=1e-9 * found.peak)
    assert parts.squares == pytest.approx(found.squares, rel=1e-6, abs=1e-9 * found.peak**2)


def test_independent_of_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(3.0, 2.0, (7, 11)).astype(np.float32)
    whole = spread(array)
    monkeypatch.setattr(module, "ELEMENT_BLOCK", 10)
    assert spread(array.T).mean == pytest.approx(whole.mean, rel=1e-12)
    assert spread(array).std == pytest.approx(whole.std, rel=1e-12)


def test_a_broadcast_array_is_not_copied() -> None:
    found = spread(np.broadcast_to(np.float32(0.5), (1 << 20, 1 << 20)))
    assert (found.count, found.mean, found.std, found.zeros) == (1 << 40, 0.5, 0.0, 0)


def test_no_values_no_range() -> None:
    assert spread(np.zeros((0, 3))) == Spread()
    assert spread(np.array([np.nan])).as_dict()["min"] is None
    assert Spread().std is None
    assert Spread().sparsity == 0
