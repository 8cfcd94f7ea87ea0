"""Metrics of several batches, and verdicts on several outputs: every one counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.comparison.compare import Comparison, Run, compare
from modelsurgeon.comparison.metrics import Metrics, MetricSums

NAN, INF = float("nan"), float("inf")


def summed(*batches: tuple[object, object]) -> Metrics:
    sums = MetricSums("y")
    for a, b in batches:
        sums.add(np.asarray(a), np.asarray(b))
    return sums.metrics()


def off_by(**errors: float) -> Run:
    """A model whose outputs are ones, each off by a relative error."""
    outputs = {name: np.full(4, 1 + error) for name, error in errors.items()}
    return lambda _: outputs


def compared(
    errors: Mapping[str, float], noise: Mapping[str, float], tolerance: float | None = None
) -> Comparison:
    exact = off_by(**dict.fromkeys(errors, 0.0))
    return compare(exact, off_by(**errors), [{}], rerun_a=off_by(**noise), tolerance=tolerance)


@given(st.permutations([("y", 1e-7, 1e-6), ("z", 1e-3, 1e-6), ("u", 1e-7, 1e-6)]))
def test_one_output_beyond_its_noise_is_enough(outputs: list[tuple[str, float, float]]) -> None:
    """The noise of the other outputs hides nothing, wherever the output stands."""
    errors, noise = ({each[0]: each[i] for each in outputs} for i in (1, 2))
    assert compared(errors, noise).verdict == "different"
    assert compared(errors | {"z": 1e-6}, noise).verdict == "within-noise"


def test_an_output_without_noise_is_within_it_where_it_is_exact() -> None:
    noise = {"y": 1e-6, "z": 0.0}
    assert compared({"y": 1e-6, "z": 0.0}, noise).verdict == "within-noise"
    assert compared({"y": 1e-6, "z": 1e-4}, noise).verdict == "different"


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.01, "different"), (1.9, "different"), (0.99, "within-noise")]
)
def test_noise_is_no_excuse_beyond_a_given_tolerance(share: float, verdict: str) -> None:
    assert compared({"y": share * 1e-6}, {"y": 5e-7}, tolerance=1e-6).verdict == verdict


def test_the_noise_floor_is_that_of_the_noisiest_output() -> None:
    found = compared({"y": 0.0, "z": 0.0}, {"y": 1e-8, "z": 1e-6})
    assert found.noise == pytest.approx(1e-6)
    floor = found.as_dict()["noise_floor"]
    for key in ("rel_l2", "max_abs", "max_abs_over_peak"):
        assert floor[key] == pytest.approx(1e-6)
    assert [output["rel_l2"] for output in floor["outputs"]] == pytest.approx([1e-8, 1e-6])


@pytest.mark.parametrize("later", [([NAN, 1.0], [NAN, 1.0]), ([INF, 1.0], [INF, 1.0]), ([1.0], [1.0])])
def test_a_later_batch_does_not_undo_a_mismatch(later: tuple[object, object]) -> None:
    assert summed(([NAN, 1.0], [1.0, 1.0]), later).error == INF
    assert summed(later, ([NAN, 1.0], [1.0, 1.0])).error == INF


def test_elements_that_are_not_finite_are_counted_over_all_batches() -> None:
    odd = ([NAN, INF, 1.0], [NAN, INF, 1.0])
    assert summed(odd, odd, ([1.0], [1.0])).nan_or_inf == 4


def test_one_batch_of_another_type_is_enough() -> None:
    same, other = (np.ones(2, "f4"), np.ones(2, "f4")), (np.ones(2, "f4"), np.ones(2, "f8"))
    assert not summed(same, other).identical and not summed(other, same).identical
    assert summed(same, same).identical


@given(st.integers(0, 2**32 - 1))
def test_a_cosine_is_never_beyond_1(seed: int) -> None:
    """Rounding of the three norms would leave that of parallel vectors above 1 about half of the time."""
    a = np.random.default_rng(seed).normal(size=7)
    for factor in (1.0, 3.0, -0.7):
        cosine = summed((a, factor * a)).cosine
        assert cosine is not None and abs(cosine) <= 1
