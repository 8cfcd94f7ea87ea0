"""Latency of models, measured so that the figures of several models can be compared.

Sessions are timed in turn, in blocks. Threads of onnxruntime spin for a while after a run, waiting for the
next one; a model that is timed in that while shares the cores with them, and a faster model can appear
slower. Switching the spinning off would change what is measured: everyone deploys with it on. So each block
starts with a rest, until the threads of the other sessions sleep, and a run that isn't timed wakes its own.
With one thread there are no such threads, and no rest.

On a CPU that one thread is the caller's, and its CPU time is measured: on an idle machine it equals the
elapsed time, on a busy one it leaves out the time of other programs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from modelsurgeon.data import Array
from modelsurgeon.errors import BadData
from modelsurgeon.onnx.run.sessions import failing_as, session

WARM_UP_RUNS = 3
TIMING_BLOCKS = 10
REST_SECONDS = 0.15  # until the threads of other sessions sleep
MAX_TIMED_SECONDS = 10.0  # of timed runs, all models together; slow models are run less often


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One inference, in milliseconds: median, 10th and 90th percentile of `runs` runs.

    threads: as asked for; None is onnxruntime's default, one per core.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int | None
    provider: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """Latency of `before` over that of `after`: median, 10th and 90th percentile of paired blocks."""

    before: Latency
    after: Latency
    speedup: float
    p10: float
    p90: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def latency(
    models: Sequence[ir.Model],
    feed: Mapping[str, Array],
    *,
    repeats: int = 50,
    threads: int | None = None,
    provider: str = "cpu",
) -> list[Latency]:
    """Latency of each model on one feed, timed in turn. repeats: runs of each, fewer if they are slow.

    Raises BadData for fewer than one run and for a feed on which a model can't run.
    """
    times = _run_times(models, feed, repeats, threads, provider)
    return [_summary(row, threads, provider) for row in times]


def speedup(
    before: ir.Model,
    after: ir.Model,
    feed: Mapping[str, Array],
    *,
    repeats: int = 50,
    threads: int | None = None,
    provider: str = "cpu",
) -> Speedup:
    """Speedup of `after` over `before`: ratios of the medians of neighbouring blocks of runs.

    Raises BadData as `latency` does.
    """
    times = _run_times([before, after], feed, repeats, threads, provider)
    slow, fast = (_summary(row, threads, provider) for row in times)
    p10, median, p90 = block_ratios(times)
    return Speedup(before=slow, after=fast, speedup=median, p10=p10, p90=p90)


def block_ratios(times: NDArray[np.float64]) -> tuple[float, float, float]:
    """The 10th, 50th and 90th percentile over blocks of the ratio of two models' medians in a block.

    times: milliseconds `(2, blocks, runs in a block)`.
    """
    first, second = np.median(times, axis=2)
    p10, median, p90 = np.percentile(first / second, [10, 50, 90])
    return float(p10), float(median), float(p90)


def _run_times(
    models: Sequence[ir.Model],
    feed: Mapping[str, Array],
    repeats: int,
    threads: int | None,
    provider: str,
) -> NDArray[np.float64]:
    """Milliseconds of every timed run: `(models, blocks, runs in a block)`."""
    if repeats < 1:
        raise BadData(f"{repeats} timed runs: at least 1 is needed")
    timers = [Timer.of(model, feed, threads, provider) for model in models]
    return times_in_turn(timers, repeats, 0.0 if threads == 1 else REST_SECONDS)


def times_in_turn(timers: Sequence[Timer], repeats: int, rest: float) -> NDArray[np.float64]:
    """Milliseconds of every timed run: `(timers, blocks, runs in a block)`. rest: seconds before a block."""
    blocks = min(TIMING_BLOCKS, repeats)
    once = sum(timer.runs(WARM_UP_RUNS, rest)[-1] for timer in timers)  # milliseconds
    affordable = max(1, int(1e3 * MAX_TIMED_SECONDS / (blocks * once)))
    block_runs = min(-(-repeats // blocks), affordable)
    times = np.empty((len(timers), blocks, block_runs))
    for block in range(blocks):
        turn = list(enumerate(timers))
        for index, timer in turn if block % 2 == 0 else reversed(turn):  # so that a drift cancels
            times[index, block] = timer.runs(1 + block_runs, rest)[1:]  # the first wakes the threads
    return times


class Timer:
    """Times runs of a session on one feed. clock: returns the time in nanoseconds."""

    def __init__(
        self, opened: ort.InferenceSession, feed: Mapping[str, Array], clock: Callable[[], int]
    ) -> None:
        """Keep the arrays of the feed that are inputs of the session."""
        self._session = opened
        self._feed = {value.name: feed[value.name] for value in opened.get_inputs() if value.name in feed}
        self._clock = clock

    @classmethod
    def of(cls, model: ir.Model, feed: Mapping[str, Array], threads: int | None, provider: str) -> Timer:
        """A timer of a model: by CPU time for one thread on a CPU, else by elapsed time."""
        alone = threads == 1 and provider == "cpu"
        clock = time.thread_time_ns if alone else time.perf_counter_ns
        return cls(session(model, provider=provider, threads=threads), feed, clock)

    def runs(self, count: int, rest: float) -> list[float]:
        """Milliseconds of each of `count` runs, after a rest of `rest` seconds."""
        time.sleep(rest)
        with failing_as(BadData, "the model can't run on this feed", "give one that fits"):
            return [self._once() for _ in range(count)]

    def _once(self) -> float:
        started = self._clock()
        self._session.run(None, self._feed)
        return 1e-6 * (self._clock() - started)


def _summary(times: NDArray[np.float64], threads: int | None, provider: str) -> Latency:
    p10, median, p90 = (float(ms) for ms in np.percentile(times, [10, 50, 90]))
    return Latency(
        median_ms=median, p10_ms=p10, p90_ms=p90, runs=times.size, threads=threads, provider=provider
    )
