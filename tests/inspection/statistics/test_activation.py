"""Statistics of an activation accumulated over batches, and their findings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.inspection.statistics.activation import Activation, ActivationPlace, ActivationSums, Bounds
from modelsurgeon.inspection.statistics.activations import Activations


def tallied(
    *feeds: np.ndarray, axis: int | None = 1, op: str = "Relu", bounds: Bounds | None = None
) -> Activation:
    tally = ActivationSums(place=ActivationPlace(layer="r", op=op, dtype="float32", axis=axis, bounds=bounds))
    for feed in feeds:
        tally.add(feed.astype(np.float32))
    return tally.result()


def findings_of(found: Activation) -> dict[str, str]:
    return {remark.rule: remark.message for remark in Activations(places=[found], samples=4).findings}


@given(seed=st.integers(0, 99), axis=st.sampled_from([1, -1, 2]), cut=st.integers(1, 5))
def test_batches_add_up_to_all_data(seed: int, axis: int, cut: int) -> None:
    whole = np.random.default_rng(seed).normal(size=(6, 4, 5)).astype(np.float32)
    found = tallied(whole[:cut], whole[cut:], axis=axis)
    assert found.spread.mean == pytest.approx(whole.mean(dtype=np.float64), rel=1e-9, abs=1e-12)
    assert found.spread.std == pytest.approx(whole.std(dtype=np.float64), rel=1e-9)
    assert (found.spread.low, found.spread.high) == (whole.min(), whole.max())
    assert found.channels == whole.shape[axis]
    assert found.seen == whole.size // whole.shape[axis]
    for percent, value in found.percentiles.items():
        true = np.percentile(whole, percent, method="inverted_cdf")
        assert value == pytest.approx(true, rel=0.01)


def test_dead_and_constant_hold_over_all_batches() -> None:
    feeds = np.random.default_rng(0).uniform(0.1, 1, (4, 5, 3, 3))
    feeds[:, 1] = 0
    feeds[:, 2] = 7
    feeds[:3, 3] = 0
    found = tallied(*feeds[:, None])
    assert (found.dead, found.constant) == ((1,), (2,))
    assert findings_of(found) == {
        "dead-units": "1 of 5 channels never fire in 4 samples: 1",
        "constant-units": "1 of 5 channels never change in 4 samples: 2",
    }


def test_few_values_give_no_channel_finding() -> None:
    assert findings_of(tallied(np.zeros((4, 5)))) == {}


def test_nan_and_inf_are_counted() -> None:
    feed = np.ones((1, 4, 8, 8))
    feed[0, 0, 0, :3] = np.nan
    feed[0, 1, 0, 0] = -np.inf
    assert findings_of(tallied(feed))["nan-or-inf"] == "3 NaN and 1 Inf among 256 values"


def test_saturation_ignores_the_zeros_of_a_rectifier() -> None:
    ends = np.repeat([0.001, 0.995, 0.5, 0.4], [40, 40, 10, 10])
    found = tallied(ends.reshape(1, 1, -1), op="Sigmoid", bounds=Bounds(low=0.0, high=1.0, margin=0.01))
    assert (found.at_low, found.at_high) == (0.4, 0.4)
    assert findings_of(found)["saturated"] == "80.0 % of the values are at the bounds of Sigmoid (0 and 1)"
    six = np.repeat([0.0, 6.0, 3.0], [80, 10, 10]).reshape(1, 1, -1)
    assert findings_of(tallied(six, op="Clip", bounds=Bounds(low=0.0, high=6.0))) == {}
    six = np.repeat([0.0, 6.0, 3.0], [10, 80, 10]).reshape(1, 1, -1)
    assert (
        "bounds of Clip (6)"
        in findings_of(tallied(six, op="Clip", bounds=Bounds(low=0.0, high=6.0)))["saturated"]
    )


def test_float16_overflow_and_subnormals() -> None:
    large, small = np.full((1, 1, 50), 1e5), np.full((1, 1, 50), 1e-6)
    large[..., :10] = small[..., :10] = 1
    assert "80.0 % of the values are larger" in findings_of(tallied(large))["half-overflow"]
    assert findings_of(tallied(small))["half-subnormal"].startswith("80.0 % of the values that aren't 0")


def test_without_axis_no_channels() -> None:
    found = tallied(np.zeros((3, 4)), axis=None)
    assert (found.channels, found.dead) == (0, ())
    assert found.as_dict()["dead_channels"] == []


def test_table_rows_and_findings_in_json() -> None:
    found = Activations(places=[tallied(np.ones((2, 3, 4, 4)))], samples=2, notes=["a note"])
    first, second = found.tables()
    assert [row["channels"] for row in first.rows] == [3]
    assert first.notes[-1] == "a note"
    assert len(second.rows) == 1
    assert found.as_dict()[0]["findings"][0]["rule"] == "constant-units"
