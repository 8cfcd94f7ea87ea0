"""Histograms of values: percentiles, sums and shares below a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelsurgeon.inspection.statistics.histogram import histogram, percentile, share_below

NUMBERS = arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32))


@given(array=NUMBERS, percent=st.floats(0, 100))
def test_percentiles_are_within_1_percent(array: np.ndarray, percent: float) -> None:
    found = percentile(histogram(array), percent)
    finite = np.sort(array[np.isfinite(array)].astype(np.float64))
    if not finite.size:
        assert found is None
        return
    true = finite[max(0, int(np.ceil(percent / 100 * finite.size - 1e-9)) - 1)]
    near = finite[min(finite.size - 1, int(np.floor(percent / 100 * finite.size + 1e-9)))]
    assert found is not None
    assert min(true, near) - 0.01 * abs(min(true, near)) - 1e-38 <= found
    assert found <= max(true, near) + 0.01 * abs(max(true, near)) + 1e-38


@given(whole=NUMBERS, cut=st.integers(0, 50))
def test_histograms_add_up(whole: np.ndarray, cut: int) -> None:
    assert np.array_equal(histogram(whole[:cut]) + histogram(whole[cut:]), histogram(whole))
    assert histogram(whole).sum() == whole.size


@given(array=NUMBERS, power=st.integers(-100, 100))
def test_shares_below_a_power_of_two_are_exact(array: np.ndarray, power: int) -> None:
    sizes = np.abs(array[np.isfinite(array) & (np.abs(array) >= 2.0**-126)].astype(np.float64))
    if sizes.size == np.isfinite(array).sum() - (array == 0).sum():
        true = (sizes < 2.0**power).mean() if sizes.size else 0.0
        assert share_below(histogram(array), 2.0**power) == pytest.approx(true)


def test_other_dtypes_are_rounded() -> None:
    counts = histogram(np.array([1e300, 1.0, 2.0]))
    assert percentile(counts, 100) == pytest.approx(2, rel=0.01)
    assert percentile(histogram(np.array([1, 2, 3], np.float16)), 50) == pytest.approx(2, rel=0.01)
