"""Each defect of a batch norm is found by its rule, and repaired where possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.layers.batchnorm import BatchNorm
from modelsurgeon.layers.batchnorm_health import findings, repair
from modelsurgeon.layers.channel_statistics import ChannelStatistics


def norm(**parts: Any) -> BatchNorm:  # noqa: ANN401
    sound = {"scale": [1, 2, -1], "shift": [0, 0, 1], "mean": [0.5, 0, 0], "var": [1, 2, 3]}
    arrays = {key: np.array(parts.pop(key, value), np.float32) for key, value in sound.items()}
    return BatchNorm(**arrays, **parts)


TRUTH = ChannelStatistics(count=50, mean=np.array([0.5, 0.1, 0.0]), var=np.array([1.2, 2.0, 2.5]))


def rules(norm: BatchNorm, **more: Any) -> list[str]:  # noqa: ANN401
    return [found.rule for found in findings(norm, **more)]


def test_a_sound_norm_has_no_finding() -> None:
    assert rules(norm(), truth=TRUTH) == []
    assert repair(norm(), TRUTH)[1] == []


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ({"scale": [1, np.nan, 1]}, "not-finite"),
        ({"var": [1, np.inf, 1]}, "not-finite"),
        ({"var": [1, -0.5, 1]}, "negative-variance"),
        ({"var": [1, 1e-7, 1]}, "near-zero-variance"),
        ({"var": [1, 1e-8, 1], "scale": [1, 9, 1]}, "huge-gain"),
        ({"scale": [1, 0, 1]}, "dead-channel"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": 0.1}, "epsilon"),
        ({"mean": [0, 0, 0], "var": [1, 1, 1]}, "untrained"),
    ],
)
def test_parameter_rules(parts: dict[str, Any], rule: str) -> None:
    assert rule in rules(norm(**parts))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"training": True}, "training-mode"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum": 0.0}, "momentum"),
        ({"momentum": 1.0}, "momentum"),
        ({"truth": ChannelStatistics(count=9, mean=np.array([2.5, 0, 0]), var=TRUTH.var)}, "mean-drift"),
        ({"truth": ChannelStatistics(count=9, mean=TRUTH.mean, var=np.array([9.0, 2, 3]))}, "variance-drift"),
    ],
)
def test_mode_and_drift_rules(more: dict[str, Any], rule: str) -> None:
    assert rules(norm(), **more) == [rule]


def test_one_value_shows_no_drift() -> None:
    assert rules(norm(), truth=ChannelStatistics(count=1, mean=np.full(3, 9.0), var=np.zeros(3))) == []


@pytest.mark.parametrize(
    ("parts", "done", "truth"),
    [
        ({"scale": [1, np.nan, 1]}, "scale set to 1 in 1 of 3", None),
        ({"mean": [np.inf, np.nan, 1]}, "mean set to 0 in 2 of 3", None),
        ({"mean": [np.inf, np.nan, 1]}, "statistics set to those of the data in 2 of 3", TRUTH),
        ({"var": [1, np.nan, 1]}, "var set to 1 in 1 of 3", None),
        ({"var": [1, -0.1, 1]}, "variance clamped to 0 in 1 of 3", None),
        ({"var": [1, -0.1, 1]}, "statistics set to those of the data in 1 of 3", TRUTH),
        ({"var": [1, 1e-12, 1], "epsilon": 0.0}, "1 of 3 channels have no sound gain: made constant", None),
        ({"epsilon": float("nan")}, "epsilon set to 1e-05", None),
    ],
)
def test_broken_norms_are_repaired(parts: dict[str, Any], done: str, truth: ChannelStatistics | None) -> None:
    better, repairs = repair(norm(**parts), truth)
    assert any(done in each for each in repairs)
    assert np.isfinite(better.gain).all()
    assert np.isfinite(better.offset).all()
    assert (better.var >= 0).all()
    assert repair(better, truth)[1] == []


def test_a_constant_channel_outputs_its_shift() -> None:
    better, _ = repair(norm(var=[1, 1e-30, 3], shift=[0, 7, 1], mean=[0, 5, 0], epsilon=0.0))
    assert (better.gain[1], better.offset[1]) == (0, 7)


def test_data_override_a_near_zero_variance() -> None:
    better, _ = repair(norm(var=[1, 1e-30, 3]), TRUTH)
    assert (better.scale[1], better.var[1]) == (2, 2)


def test_large_gains_stay_but_where_data_show_other_statistics() -> None:
    loud = norm(var=[1, 1e-8, 3], epsilon=1e-12)
    assert repair(loud) == (loud, [])
    better, done = repair(loud, TRUTH)
    assert (better.scale[1], better.var[1]) == (2, 2)
    assert done == ["statistics set to those of the data in 1 of 3 channels"]
    measured = ChannelStatistics(count=9, mean=loud.mean, var=loud.var)
    assert repair(loud, measured)[1] == []


def test_all_zero_variances_are_left_alone() -> None:
    """The statistics are missing then, and only data can replace them."""
    assert repair(norm(var=[0, 0, 0]))[1] == []


@given(
    var=st.lists(
        st.sampled_from([0.0, 1e-45, 1e-12, 1e-7, 0.3, 9.0, 1e30, -1e-9, -0.2]), min_size=1, max_size=4
    ),
    epsilon=st.sampled_from([0.0, 1e-45, 1e-12, 1e-8, 1e-5, 1e-3]),
    scale=st.sampled_from([0.0, -2.0, 1.0, 30.0]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_repaired_gains_are_finite_and_sound_ones_stay(
    var: list[float], epsilon: float, scale: float, dtype: type[np.floating[Any]]
) -> None:
    with np.errstate(over="ignore"):
        stored = np.nan_to_num(np.array(var, dtype), posinf=1e4)
    size = len(var)
    before = BatchNorm(
        scale=np.full(size, scale, dtype),
        shift=np.ones(size, dtype),
        mean=np.zeros(size, dtype),
        var=stored,
        epsilon=epsilon,
    )
    after, _ = repair(before)
    with np.errstate(all="ignore"):
        gains = [
            np.asarray(each.scale, dtype) / np.sqrt(np.asarray(each.var, dtype) + np.asarray(epsilon, dtype))
            for each in (before, after)
        ]
    assert np.isfinite(gains[1]).all()
    summed = (np.asarray(before.var, dtype) + np.asarray(epsilon, dtype)).astype(float)
    sound = (stored >= 0) & np.isfinite(gains[0]) & (summed >= 1e-10)
    np.testing.assert_array_equal(gains[1][sound], gains[0][sound])
    assert repair(after)[1] == []
