"""What is made of measured times: order of the runs, medians and ratios, with clocks of known time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from modelsurgeon.onnx.run.layer_latency import MIN_ROUNDS, median_times, paired_times
from modelsurgeon.onnx.run.sessions import session
from modelsurgeon.onnx.run.timing import (
    MAX_TIMED_SECONDS,
    TIMING_BLOCKS,
    WARM_UP_RUNS,
    Timer,
    _summary,
    block_ratios,
    times_in_turn,
)
from tests.zoo import model, ones

FEED = {"x": ones(2)}


@pytest.fixture(scope="module")
def opened() -> ort.InferenceSession:
    return session(model("g (float[2] x) => (float[2] y) { y = Relu (x) }"), threads=1)


def timer(
    opened: ort.InferenceSession,
    duration: Callable[[int], float],
    name: str = "",
    order: list[str] | None = None,
) -> Timer:
    """A timer by whose clock run number n takes `duration(n)` milliseconds. order: gets the name at each."""
    times = iter(t for n in range(10_000) for t in (0, round(1e6 * duration(n))))

    def clock() -> int:
        now = next(times)
        if order is not None and now:
            order.append(name)
        return now

    return Timer(opened, FEED, clock)


def test_nanoseconds_of_the_clock_are_milliseconds_of_a_run(opened: ort.InferenceSession) -> None:
    assert timer(opened, lambda n: n + 0.5).runs(3, 0.0) == pytest.approx([0.5, 1.5, 2.5])


def test_warm_up_runs_and_the_first_of_each_block_are_not_counted(opened: ort.InferenceSession) -> None:
    each_block = 1 + 4

    def duration(number: int) -> float:
        first = number < WARM_UP_RUNS - 1 or (number - WARM_UP_RUNS) % each_block == 0
        return 90.0 if first else 2.0

    times = times_in_turn([timer(opened, duration)], 4 * TIMING_BLOCKS, 0.0)
    assert times.shape == (1, TIMING_BLOCKS, 4)
    assert (times == 2.0).all()


def test_the_order_is_reversed_from_block_to_block(opened: ort.InferenceSession) -> None:
    order: list[str] = []
    times_in_turn([timer(opened, lambda _: 1.0, name, order) for name in "ab"], TIMING_BLOCKS, 0.0)
    blocks = "".join(order)[2 * WARM_UP_RUNS :]
    assert blocks == "aabbbbaa" * (TIMING_BLOCKS // 2)


def test_slow_models_are_run_less_often(opened: ort.InferenceSession) -> None:
    slow = 50.0
    times = times_in_turn([timer(opened, lambda _: slow) for _ in range(2)], 1000, 0.0)
    assert 0.9 * MAX_TIMED_SECONDS < 1e-3 * times.sum() <= MAX_TIMED_SECONDS
    endless = times_in_turn([timer(opened, lambda _: 1e6)], 1000, 0.0)
    assert endless.shape == (1, TIMING_BLOCKS, 1)


def test_a_speedup_is_the_median_ratio_of_blocks() -> None:
    """Neither single disturbed runs nor blocks in which the machine is slow for both change it."""
    times = np.stack([np.full((10, 5), 6.0), np.full((10, 5), 3.0)])
    times[:, 4] *= 7
    times[0, :, 2] = 1000
    times[1, 3, 1:3] = 500
    assert block_ratios(times) == (2.0, 2.0, 2.0)
    times[0, 0] = 60  # one block in which the first model alone is slow
    assert block_ratios(times) == pytest.approx((2.0, 2.0, 2 + 0.1 * 18))
    assert block_ratios(times[::-1])[1] == 0.5


def test_a_latency_has_percentiles_of_all_runs() -> None:
    times = np.arange(1.0, 102.0)
    found = _summary(times.reshape(1, 101), 1, "cpu")
    assert (found.p10_ms, found.median_ms, found.p90_ms, found.runs) == (11.0, 51.0, 91.0, 101)


def test_pairs_are_of_a_chain_and_its_layer(opened: ort.InferenceSession) -> None:
    pairs = paired_times(
        timer(opened, lambda n: 9.0 if n == 0 else 2.0), timer(opened, lambda n: 9.0 if n == 40 else 1.0)
    )
    assert len(pairs) >= MIN_ROUNDS and set(pairs) == {(2.0, 1.0)}


def test_disturbed_runs_do_not_change_the_times_of_layers_and_chains() -> None:
    pairs = {
        "quick": [(1.0, 4.0), (99.0, 4.0), (1.0, 4.0), (2.0, 8.0), (1.0, 90.0)],
        "slow": [(6.0, 4.0), (6.0, 4.0), (6.0, 0.1)],
    }
    assert median_times(pairs) == (4.0, {"quick": 1.0, "slow": 6.0})
    assert median_times(pairs, 2.0) == (2.0, {"quick": 0.5, "slow": 3.0})
