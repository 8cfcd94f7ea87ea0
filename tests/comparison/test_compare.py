"""Error metrics, verdicts, and the handling of NaN and infinity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf, isclose
from weakref import ref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import ArrayLike, DTypeLike

from modelsurgeon.comparison.compare import EXACT_TOLERANCE, NOISE_FACTOR, Run, compare
from modelsurgeon.comparison.metrics import Metrics, MetricSums
from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData

RNG = np.random.default_rng(0)
NAN = float("nan")

arrays = npst.arrays(
    np.float32, npst.array_shapes(max_dims=3, max_side=6), elements=st.floats(-100, 100, width=32)
)


def metrics(*pairs: tuple[ArrayLike, ArrayLike], dtype: DTypeLike = np.float32) -> Metrics:
    tally = MetricSums("y")
    for a, b in pairs:
        tally.add(np.asarray(a, dtype), np.asarray(b, dtype))
    return tally.metrics()


def giving(*outputs: ArrayLike, name: str = "y") -> Run:
    """A model with these outputs, one per feed."""
    return lambda feed: {name: np.asarray(outputs[int(feed["n"])])}


def feeds(count: int = 1) -> list[Mapping[str, int]]:
    return [{"n": number} for number in range(count)]


def compared(
    a: ArrayLike, b: ArrayLike, *, again: ArrayLike | None = None, tolerance: float | None = None
) -> str | None:
    rerun = None if again is None else giving(again)
    return compare(giving(a), giving(b), feeds(), rerun_a=rerun, tolerance=tolerance).verdict


# Metrics


def test_known_values() -> None:
    found = metrics(([3, 4], [3, 5]))
    assert found.max_abs == 1
    assert found.max_abs_over_peak == 0.25
    assert found.rel_l2 == 0.2
    assert isclose(found.sqnr_db or 0, 20 * np.log10(5))
    assert isclose(found.cosine or 0, 29 / (5 * np.sqrt(34)))
    assert found.equal == 0.5
    assert found.top1_agreement is None


@given(arrays)
def test_an_array_is_identical_to_itself(a: np.ndarray) -> None:
    found = metrics((a, a.copy()))
    assert found.identical
    assert (found.error, found.max_abs, found.equal) == (0, 0, 1)
    assert found.sqnr_db == inf
    assert found.cosine is None or isclose(found.cosine, 1)
    assert found.top1_agreement in (None, 1)


@given(arrays, st.floats(-8, 8))
def test_scaling_is_a_relative_error(a: np.ndarray, by: float) -> None:
    assume(np.abs(a).max() > 1e-3)
    wide = a.astype(np.float64)
    found = metrics((wide, wide * (1 + by)), dtype=np.float64)
    assert found.rel_l2 is not None
    assert isclose(found.rel_l2, abs(by), rel_tol=1e-9, abs_tol=1e-12)
    assert isclose(found.max_abs_over_peak or 0, abs(by), rel_tol=1e-9, abs_tol=1e-12)


@given(arrays, st.data())
def test_symmetric_metrics(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(npst.arrays(np.float32, a.shape, elements=st.floats(-100, 100, width=32)))
    there, back = metrics((a, b)), metrics((b, a))
    assert (there.max_abs, there.equal, there.top1_agreement) == (
        back.max_abs,
        back.equal,
        back.top1_agreement,
    )
    assert there.cosine == back.cosine or isclose(there.cosine or 0, back.cosine or 0)


@given(arrays, st.integers(0, 6), st.data())
def test_metrics_do_not_depend_on_batches(a: np.ndarray, at: int, data: st.DataObject) -> None:
    b = data.draw(npst.arrays(np.float32, a.shape, elements=st.floats(-100, 100, width=32)))
    whole, parts = metrics((a, b)), metrics((a[:at], b[:at]), (a[at:], b[at:]))
    assert (whole.max_abs, whole.equal, whole.identical) == (parts.max_abs, parts.equal, parts.identical)
    assert whole.rel_l2 == parts.rel_l2 or isclose(whole.rel_l2 or 0, parts.rel_l2 or 0, rel_tol=1e-9)


def test_top1_uses_the_last_axis_of_two_or_more() -> None:
    a, b = np.eye(4)[[0, 1, 2, 3]], np.eye(4)[[0, 1, 2, 0]]
    assert metrics((a, b)).top1_agreement == 0.75
    assert metrics((a[..., None, None], b[..., None, None])).top1_agreement == 0.75
    assert metrics((a[:, :1], b[:, :1])).top1_agreement is None
    assert metrics((a[0], b[0])).top1_agreement is None


def test_error_for_a_zero_reference_is_zero_or_infinite() -> None:
    assert metrics(([0, 0], [0, 0])).error == 0
    assert metrics(([0, 0], [0, 1e-9])).error == inf
    assert metrics(([0, 0], [0, 1])).cosine is None


def test_nan_in_the_same_place_counts_as_equal() -> None:
    found = metrics(([1, NAN, inf, -inf], [1, NAN, inf, -inf]))
    assert found.identical
    assert (found.error, found.nan_or_inf) == (0, 3)


@pytest.mark.parametrize(("a", "b"), [([1, NAN], [1, 1]), ([1, 1], [1, inf]), ([1, inf], [1, -inf])])
def test_nan_on_one_side_has_infinite_error(a: list[float], b: list[float]) -> None:
    found = metrics((a, b), ([1, 1], [1, 1]))
    assert (found.error, found.nan_or_inf) == (inf, 1)


def test_metrics_are_of_the_finite_elements() -> None:
    for odd in (NAN, inf, -inf):
        found = metrics(([odd, 3, 4], [odd, 3, 5]))
        assert (found.rel_l2, found.max_abs_over_peak) == (0.2, 0.25)


def test_overflow_has_infinite_error() -> None:
    assert metrics(([1e200, 1], [-1e200, 1]), dtype=np.float64).error == inf
    assert metrics(([1e308, 1], [-1e308, 1]), dtype=np.float64).max_abs == inf


def test_negative_zero_is_equal_but_not_identical() -> None:
    found = metrics(([0.0, 1], [-0.0, 1]))
    assert not found.identical
    assert found.error == 0


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, object, "U3"])
def test_other_types_are_compared_by_equality(dtype: DTypeLike) -> None:
    found = metrics(([0, 1, 1, 0], [0, 1, 1, 1]), dtype=dtype)
    assert (found.equal, found.error, found.rel_l2, found.identical) == (0.75, 0.25, None, False)
    assert metrics(([0, 1], [0, 1]), dtype=dtype).identical


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.complex64])
def test_half_and_complex_types_have_rel_l2(dtype: DTypeLike) -> None:
    assert metrics(([3, 4], [3, 5]), dtype=dtype).rel_l2 == 0.2


def test_different_types_are_never_identical() -> None:
    tally = MetricSums("y")
    tally.add(np.ones(3, np.float32), np.ones(3, np.float64))
    assert (tally.metrics().error, tally.metrics().identical) == (0, False)


@pytest.mark.parametrize(
    ("a", "b", "note"),
    [
        (np.ones(3), np.ones(4), r"shape [3] in A, [4] in B"),
        (np.ones(3), np.ones((3, 1)), r"shape [3] in A, [3, 1] in B"),
        (np.ones(3), np.ones(3, int), r"float64 in A, int64 in B"),
        ([np.ones(3)], [np.ones(3)] * 2, r"1 tensors in A, 2 in B"),
        (None, np.ones(3), r"0 tensors in A, 1 in B"),
    ],
)
def test_incomparable_outputs_have_a_note(a: object, b: object, note: str) -> None:
    tally = MetricSums("y")
    tally.add(np.ones(2), np.ones(2))
    tally.add(a, b)
    assert tally.metrics().note == note
    assert tally.metrics().error == inf
    assert not tally.metrics().identical


def test_sequences_and_maps_are_compared_by_element() -> None:
    tally = MetricSums("y")
    tally.add([{"a": 1.0, "b": 2.0}, {"a": 3.0}], [{"a": 1.0, "b": 2.0}, {"a": 4.0}])
    assert tally.metrics().max_abs == 1
    assert tally.metrics().equal == 2 / 3


def test_empty_arrays_are_identical() -> None:
    assert metrics((np.zeros((0, 3)), np.zeros((0, 3)))).identical


# Verdicts


def test_verdicts() -> None:
    a = RNG.standard_normal(1000).astype(np.float32)
    noisy, near, far = (a * np.float32(1 + by) for by in (2e-7, 3e-6, 1e-3))
    assert compared(a, a) == "identical"
    assert compared(a, noisy, again=noisy) == "within-noise"
    assert compared(a, near, again=noisy) == "within-tolerance"
    assert compared(a, far, again=noisy) == "different"
    assert compared(a, far, again=noisy, tolerance=0.01) == "within-tolerance"


def test_noise_factor_scales_the_noise_floor() -> None:
    a = np.ones(10, np.float64)
    floor = a * (1 + 1e-3)
    assert compared(a, a * (1 + 0.99e-3 * NOISE_FACTOR), again=floor) == "within-noise"
    assert compared(a, a * (1 + 1.01e-3 * NOISE_FACTOR), again=floor) == "different"


def test_the_default_tolerance_is_that_of_exact_surgery() -> None:
    a = np.ones(10, np.float64)
    assert compared(a, a * (1 + 0.99 * EXACT_TOLERANCE)) == "within-tolerance"
    assert compared(a, a * (1 + 1.01 * EXACT_TOLERANCE)) == "different"


def test_a_tolerance_below_the_noise_applies() -> None:
    a = np.ones(10, np.float64)
    assert compared(a, a * (1 + 1e-7), again=a * (1 + 1e-7), tolerance=1e-8) == "different"
    assert compared(a, a * (1 + 1e-7), again=a * (1 + 1e-7), tolerance=1e-6) == "within-noise"
    assert compared(a, a, tolerance=0.0) == "identical"


def test_nan_and_other_shapes_are_always_different() -> None:
    nan = np.array([NAN, 1.0])
    assert compared(np.ones(2), nan, again=nan) == "different"
    assert compared(np.ones(2), nan, again=nan, tolerance=1e9) == "different"
    assert compared(np.ones(2), np.ones(3), again=np.ones(3), tolerance=1e9) == "different"


def test_every_output_counts() -> None:
    def both(y: float, z: int) -> Run:
        return lambda _: {"y": np.array([y]), "z": np.array([z])}

    result = compare(both(1, 1), both(1, 2), feeds())
    assert result.verdict == "different"
    assert result.worst == 1
    assert [output.error for output in result.outputs] == [0, 1]


@given(arrays, arrays)
def test_every_result_is_valid_json(a: np.ndarray, b: np.ndarray) -> None:
    result = compare(giving(a), giving(b), feeds(), rerun_a=giving(b), asked=False)
    again = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert again["verdict"] == result.verdict


# Comparison of models


def test_json_has_the_keys_that_scripts_rely_on() -> None:
    result = compare(
        giving([1.0, 2.0]), giving([1.0, NAN]), feeds(), rerun_a=giving([1.0, 2.0]), providers=["cpu"]
    )
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert {"outputs", "noise_floor", "inputs", "samples", "providers", "verdict"} <= found.keys()
    (output,) = found["outputs"]
    assert {
        "name",
        "max_abs",
        "max_abs_over_peak",
        "rel_l2",
        "sqnr_db",
        "cosine",
        "top1_agreement",
    } <= output.keys()
    assert (output["rel_l2"], output["nan_or_inf"], found["rel_l2"]) == (None, 1, None)
    assert found["noise_floor"]["rel_l2"] == 0
    assert found["providers"] == ["cpu"]


def test_inputs_and_samples_are_reported() -> None:
    made = Batches(kind="noise", samples=6, count=3, make=lambda: iter(feeds(3)))  # type: ignore[arg-type]
    result = compare(giving(1.0, 2.0, 3.0), giving(1.0, 2.0, 3.0), made)
    assert (result.inputs, result.samples, result.noise_floor) == ("noise", 6, None)
    assert compare(giving(1.0, 2.0), giving(1.0, 2.0), feeds(2)).samples == 2


def test_the_table_shows_verdict_and_shapes() -> None:
    (table,) = compare(giving(np.ones(3)), giving(np.ones(4)), feeds()).tables()
    text = table.text()
    assert "verdict: different" in text
    assert "y: shape [3] in A, [4] in B" in text


def test_no_samples_raise() -> None:
    with pytest.raises(BadData, match=r"no sample to compare on"):
        compare(giving(1.0), giving(1.0), [])


def test_outputs_are_not_kept_in_memory() -> None:
    given_out: list[ref[np.ndarray]] = []

    def run(_: object) -> dict[str, np.ndarray]:
        assert sum(each() is not None for each in given_out) <= 4
        made = np.ones(10)
        given_out.append(ref(made))
        return {"y": made}

    assert compare(run, run, feeds(50)).verdict == "identical"
    assert len(given_out) == 101
