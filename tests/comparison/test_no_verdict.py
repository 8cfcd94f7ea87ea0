"""A gate must not hold on nothing: empty outputs, NaN everywhere, and models that differ from themselves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from modelsurgeon.comparison import gate
from modelsurgeon.comparison.compare import (
    EXACT_TOLERANCE,
    LOUD_ERROR,
    NOISE_CEILING,
    Comparison,
    Run,
    compare,
)
from modelsurgeon.errors import NoVerdict, ToleranceExceeded

NAN = float("nan")
Outputs = Mapping[str, np.ndarray]

elements = st.one_of(st.sampled_from([NAN, inf, -inf, 0.0, 1.0]), st.floats(-100, 100, width=32))
shapes = st.sampled_from([(0,), (0, 3), (1,), (2, 3), (3, 2), (2, 3, 1)])
dtypes = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def output_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of one shape, of which parts are equal, near each other or not finite."""
    dtype = draw(dtypes)
    a = draw(npst.arrays(dtype, draw(shapes), elements=elements.map(lambda x: float(np.float16(x)))))
    b = a.copy()
    for place in range(a.size):
        change = draw(st.sampled_from(["same", "same", "same", "near", "other", "nan"]))
        if change == "near":
            b.flat[place] *= dtype(1 + 2e-3)
        elif change == "other":
            b.flat[place] = draw(st.sampled_from([3.0, -7.0]))
        elif change == "nan":
            b.flat[place] = NAN
    return a, b


def slow_error(a: np.ndarray, b: np.ndarray) -> float | None:
    """The relative L2 of two arrays, element by element; None where none is compared."""
    squares = norm = 0.0
    compared = 0
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        alike = (isnan(x) and isnan(y)) or (abs(x) == inf and x == y)
        if alike:
            continue
        if isnan(x) or isnan(y) or abs(x) == inf or abs(y) == inf:
            return inf
        compared += 1
        squares += (x - y) ** 2
        norm += x**2
    if not compared:
        return None
    return 0.0 if not squares else (squares / norm) ** 0.5 if norm else inf


def slow_top1(a: np.ndarray, b: np.ndarray) -> float | None:
    """The share of rows with one largest place, of those without NaN and infinity; None without any."""
    sizes = list(a.shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) < 2 or not a.size:
        return None
    agreeing = []
    for ours, theirs in zip(
        a.reshape(-1, sizes[-1]).tolist(), b.reshape(-1, sizes[-1]).tolist(), strict=True
    ):
        if not any(isnan(x) or abs(x) == inf for x in ours + theirs):
            agreeing.append(ours.index(max(ours)) == theirs.index(max(theirs)))
    return sum(agreeing) / len(agreeing) if agreeing else None


def slow_verdict(pairs: list[tuple[np.ndarray, np.ndarray]], tolerance: float | None) -> str | None:
    """The verdict, from the metrics above."""
    errors = [slow_error(a, b) for a, b in pairs]
    if all(error is None for error in errors):
        return None
    if all(a.tobytes() == b.tobytes() for a, b in pairs):
        return "identical"
    worst = max(error or 0.0 for error in errors)
    return "within-tolerance" if worst <= (tolerance or EXACT_TOLERANCE) else "different"


@given(st.lists(output_pairs(), min_size=1, max_size=3), st.sampled_from([None, 0.01, 10.0]))
def test_verdict_and_top1_agree_with_a_slow_oracle(
    pairs: list[tuple[np.ndarray, np.ndarray]], tolerance: float | None
) -> None:
    a = {f"y{number}": pair[0] for number, pair in enumerate(pairs)}
    b = {f"y{number}": pair[1] for number, pair in enumerate(pairs)}
    found = compare(lambda _: a, lambda _: b, [{}], tolerance=tolerance)
    assert found.verdict == slow_verdict(pairs, tolerance)
    assert bool(found.reason) is (found.verdict is None)
    for metrics, pair in zip(found.outputs, pairs, strict=True):
        assert metrics.top1_agreement == slow_top1(*pair)
        assert metrics.error == pytest.approx(slow_error(*pair) or 0.0, rel=1e-6)


def judged(a: Outputs, b: Outputs, **how: object) -> Comparison:
    return compare(lambda _: a, lambda _: b, [{}], **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.full((2, 3), NAN), "NaN or infinite in both"),
        (np.array([inf, -inf, NAN]), "NaN or infinite in both"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((0, 3), np.int64), "empty"),
        (np.zeros((0,), object), "empty"),
        (None, "empty"),
        ([], "empty"),
    ],
)
def test_outputs_without_a_finite_element_leave_no_verdict(value: object, kind: str) -> None:
    for tolerance in (None, 1e9):
        found = judged({"y": value}, {"y": value}, tolerance=tolerance, rerun_a=lambda _: {"y": value})  # type: ignore[dict-item]
        assert found.verdict is None
        assert f"no finite element was compared, all of 'y' is {kind}" in found.reason
        assert found.worst == inf
        assert "no verdict" in found.tables()[0].text(200)
        with pytest.raises(NoVerdict, match="no finite element was compared"):
            gate.check(found, "advice")


def test_integers_and_texts_are_finite() -> None:
    assert judged({"y": np.array([1])}, {"y": np.array([1])}).verdict == "identical"
    assert judged({"y": np.array(["a"])}, {"y": np.array(["b"])}).verdict == "different"


def test_one_output_of_numbers_is_enough_and_the_other_is_noted() -> None:
    nan = np.full(3, NAN)
    found = judged({"y": np.ones(3), "z": nan}, {"y": np.ones(3), "z": nan})
    assert found.verdict == "identical"
    assert any("says nothing about the output 'z'" in note for note in found.as_dict()["notes"])


def test_nan_in_both_is_noted_and_nan_in_one_is_different() -> None:
    a = {"y": np.array([[1, 2], [NAN, 1]])}
    found = judged(a, a)
    assert (found.verdict, found.outputs[0].top1_agreement) == ("identical", 1)
    assert any("1 elements of the output 'y' are NaN or infinite in both" in note for note in found.remarks)
    for b in (np.array([[1, 2], [3.0, 1]]), np.array([[1, NAN], [NAN, 1]]), np.array([[1, 2], [inf, 1]])):
        for there, back in ((a, {"y": b}), ({"y": b}, a)):
            assert judged(there, back, tolerance=1e9).verdict == "different"
    assert judged({"y": np.full(2, NAN)}, {"y": np.ones(2)}, tolerance=1e9).verdict == "different"


# Models that differ from themselves


def drawing(scale: float, kind: type = float) -> Run:
    """A model whose output moves by about `scale` at every run."""
    runs = count()
    return lambda _: {"y": np.array([1000, 1000 + 1000 * scale * (next(runs) % 7)]).astype(kind)}


@pytest.mark.parametrize("scale", [0.5, 1e-3])
def test_a_model_that_differs_from_itself_has_no_verdict(scale: float) -> None:
    found = compare(drawing(scale), drawing(scale), [{}], rerun_a=drawing(scale), tolerance=1e9)
    assert found.verdict is None
    assert "A is not deterministic: output 'y'" in found.reason
    with pytest.raises(NoVerdict, match="not deterministic"):
        gate.check(found, "advice")


def test_other_integers_at_every_run_are_not_deterministic() -> None:
    found = compare(drawing(1e-3, int), drawing(1e-3, int), [{}])
    assert "not deterministic" in found.reason


def test_random_operators_are_named_and_the_least_difference_counts() -> None:
    names = ["Dropout 'd'", "RandomNormal 'r'", "Bernoulli 'b'", "Multinomial 'm'"]
    found = compare(drawing(1e-12), drawing(1e-12), [{}], random=names)
    assert "random operators: Dropout 'd', RandomNormal 'r', Bernoulli 'b', ...:" in found.reason
    assert not compare(drawing(1e-12), drawing(1e-12), [{}]).reason


def test_randomness_shows_on_any_sample_and_under_either_execution() -> None:
    noise = drawing(0.5)

    def run(feed: Mapping[str, float]) -> Outputs:
        return {"y": 1 + noise(feed)["y"] * feed["x"]}

    def still(_: Mapping[str, float]) -> Outputs:
        return {"y": np.ones(2) * 1000}

    samples = [{"x": 0.0}, {"x": 0.0}, {"x": 1.0}]
    assert "not deterministic" in compare(run, run, samples, random=["Dropout 'd'"]).reason
    found = compare(still, still, samples, rerun_a=noise, random=["Bernoulli 'b'"])
    assert "not deterministic" in found.reason


def test_a_random_operator_that_changes_nothing_is_no_finding() -> None:
    a = {"y": np.ones(2)}
    found = compare(lambda _: a, lambda _: a, [{}], rerun_a=lambda _: a, random=["RandomNormal 'r'"])
    assert found.verdict == "identical"


def test_the_noise_floor_has_a_ceiling() -> None:
    def by(factor: float) -> Outputs:
        return {"y": np.ones(10) * (1 + factor)}

    def verdict(error: float) -> Comparison:
        return judged(by(0), by(error), rerun_a=lambda _: by(0.9))

    assert verdict(0.99 * NOISE_CEILING).verdict == "within-noise"
    assert verdict(1.01 * NOISE_CEILING).verdict == "different"
    assert any("A moves by 0.9 under another legal execution" in note for note in verdict(0.0).remarks)


def test_nan_under_another_execution_is_no_noise() -> None:
    nan = {"y": np.array([NAN, 1])}
    assert judged({"y": np.ones(2)}, {"y": np.ones(2) * 2}, rerun_a=lambda _: nan).verdict == "different"


# What wasn't asked


def test_an_error_that_nothing_was_asked_of_is_no_missed_gate() -> None:
    found = judged({"y": np.ones(4)}, {"y": np.full(4, 1.1)}, asked=False)
    gate.check(found, "advice")
    text = found.tables()[0].text(200)
    assert "relative L2 is 0.1; no tolerance was given, so nothing was asked of it" in text
    assert "further apart than allowed" not in text
    assert "tolerance 1e-05" not in text
    assert not found.warning
    assert found.as_dict()["asked"] is False


@pytest.mark.parametrize("error", [LOUD_ERROR * 1.01, 5.0, NAN])
def test_a_large_error_that_nothing_was_asked_of_is_warned_of(error: float) -> None:
    found = judged({"y": np.ones(4)}, {"y": np.full(4, 1 + error)}, asked=False)
    assert "the outputs changed much" in found.warning
    assert found.warning in found.as_dict()["notes"]
    assert not judged({"y": np.ones(4)}, {"y": np.full(4, 1 + error)}, tolerance=1.0).warning


def test_a_missed_tolerance_names_the_output() -> None:
    found = judged({"y": np.ones(4), "z": np.ones(4)}, {"y": np.ones(4), "z": np.ones(4) * 2}, tolerance=0.5)
    with pytest.raises(ToleranceExceeded, match=r"outputs is 1, at most 0\.5 was allowed, at 'z': advice"):
        gate.check(found, "advice")
