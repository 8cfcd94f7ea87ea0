"""Streaming statistics equal those of all samples at once, for any batches and any mean."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from modelsurgeon.layers.channel_statistics import ChannelStatistics


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.floats(-1e6, 1e6), st.integers(0, 99))
def test_batches_add_up(cuts: list[int], centre: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(centre, 2.0, size=(sum(cuts), 3, 2, 4))
    pieces = np.split(x, np.cumsum(cuts)[:-1])
    whole = reduce(ChannelStatistics.with_more, map(ChannelStatistics.of, pieces))
    assert whole.count == sum(cuts) * 8
    assert_allclose(whole.mean, x.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-9)
    assert_allclose(whole.var, x.var(axis=(0, 2, 3)), rtol=1e-6)


def test_rows_without_spatial_axes() -> None:
    rows = np.array([[1, 5], [3, 5]], np.float32)
    found = ChannelStatistics.of(rows)
    assert (found.count, found.mean.tolist(), found.var.tolist()) == (2, [2, 5], [1, 0])
    assert found.var.dtype == np.float64
