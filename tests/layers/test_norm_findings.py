"""Numbers in the findings about a batch norm: which channels they count, and by how much statistics drift."""

from __future__ import annotations

import numpy as np
import pytest

from modelsurgeon.layers.batchnorm import BatchNorm
from modelsurgeon.layers.batchnorm_health import drift, findings, repair
from modelsurgeon.layers.channel_statistics import ChannelStatistics


def norm(*var: float, scale: float = 1.0, epsilon: float = 1e-5) -> BatchNorm:
    return BatchNorm(
        scale=np.full(len(var), scale),
        shift=np.zeros(len(var)),
        mean=np.full(len(var), 0.5),
        var=np.array(var),
        epsilon=epsilon,
    )


def messages(of: BatchNorm) -> dict[str, str]:
    return {found.rule: found.message for found in findings(of)}


def test_a_negative_gain_may_be_huge() -> None:
    found = messages(norm(1.0, 1e-12, scale=-9.0))
    assert "in 1 of 2" in found["huge-gain"] and "2.85e+03 at most" in found["huge-gain"]


def test_a_negative_variance_is_not_near_zero() -> None:
    found = messages(norm(1.0, -0.5, 1e-7, 1e-6))
    assert "in 1 of 4" in found["negative-variance"]
    assert "in 2 of 4" in found["near-zero-variance"]


def test_a_negative_variance_says_nothing_of_its_size() -> None:
    better, _ = repair(norm(1.0, -0.7, 2.0))
    assert better.var[1] == pytest.approx(0, abs=1e-3)
    assert better.var[[0, 2]].tolist() == [1.0, 2.0]


def test_a_small_variance_with_a_moderate_gain_is_left_alone() -> None:
    """Half of epsilon: the channel varies, and its gain of 2.6 amplifies nothing."""
    small = norm(1.0, 5e-6, scale=0.01)
    better, done = repair(small)
    assert done == [] and better.gain.tolist() == small.gain.tolist()


def test_drift_is_in_measured_standard_deviations() -> None:
    truth = ChannelStatistics(
        count=9, mean=np.array([2.5, 0.5, 0.5, 0.5]), var=np.array([16.0, 4.0, 1.0, 0.0])
    )
    moved, spread = drift(norm(16.0, 1.0, 4.0, 3.0, epsilon=1.0), truth)
    assert moved == pytest.approx([2 / 17**0.5, 0, 0, 0])
    assert spread == pytest.approx([1.0, 2.5, 2.5, 4.0])
