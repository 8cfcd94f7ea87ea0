"""Two implementations of one task, timed in interleaved pairs of runs; the median of their ratios counts.

Other load on the machine slows both runs of a pair: ratios vary less than seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from statistics import median

import torch
from threadpoolctl import threadpool_limits

from modelsurgeon.report.columns import Column, Row
from modelsurgeon.report.table import Table

PAIRS = 5
PATIENCE = 20.0  # seconds after which no further pair is started


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a run: relative error, and the norm ratio of its terms if it is a sum of terms."""

    error: float
    ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """An implementation: `work` is timed, `judge` evaluates its result."""

    work: Callable[[], object]
    judge: Callable[[object], Outcome]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Promised limits: `time` and `error` relative to a competitor's, `ratio` as our norm ratio."""

    time: float = 1.0
    error: float = 1.002
    ratio: float = float("inf")

    def verdict(self, seconds: float, ours: Outcome, theirs: Outcome) -> str:
        """Whether the median ratio of seconds and both outcomes are within the limits; empty without any."""
        if not isfinite(self.time):
            return ""
        held = (
            seconds <= self.time
            and ours.error <= self.error * theirs.error + 1e-6
            and (ours.ratio is None or ours.ratio <= self.ratio)
        )
        return "held" if held else "NOT HELD"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One task: our implementation, and those of others by name, each with the limits that we promise."""

    task: str
    ours: Run
    others: Mapping[str, tuple[Run, Bar]]


COLUMNS = [
    Column(key="task", title="task", kind="text"),
    Column(key="other", title="beside", kind="text"),
    Column(key="threads", title="threads", kind="int"),
    Column(key="ours", title="ours, s", kind="float"),
    Column(key="theirs", title="theirs, s", kind="float"),
    Column(key="seconds", title="ours / theirs", kind="float"),
    Column(key="error", title="our error", kind="float"),
    Column(key="their_error", title="their error", kind="float"),
    Column(key="ratio", title="our norm ratio", kind="float"),
    Column(key="their_ratio", title="theirs", kind="float"),
    Column(key="bar", title="bar", kind="float"),
    Column(key="held", title="", kind="text"),
]


def rows(contest: Contest, threads: int) -> Iterator[Row]:
    """One row for each competitor."""
    with _threads(threads):
        for name, (other, bar) in contest.others.items():
            pairs, ours, theirs = _paired(contest.ours, other)
            seconds = median(one / two for one, two in pairs)
            yield {
                "task": contest.task,
                "other": name,
                "threads": threads,
                "ours": median(one for one, _ in pairs),
                "theirs": median(two for _, two in pairs),
                "seconds": seconds,
                "error": ours.error,
                "their_error": theirs.error,
                "ratio": ours.ratio,
                "their_ratio": theirs.ratio,
                "bar": bar.time if isfinite(bar.time) else None,
                "held": bar.verdict(seconds, ours, theirs),
            }


def table(found: list[Row]) -> Table:
    """All rows as one table."""
    return Table(
        title="Decompositions beside others: medians of interleaved pairs",
        columns=COLUMNS,
        rows=found,
        notes=["bar: the largest ratio of seconds that we promise, at an error no larger than theirs"],
    )


def _paired(ours: Run, theirs: Run) -> tuple[list[tuple[float, float]], Outcome, Outcome]:
    pairs: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(pairs) < PAIRS and (not pairs or time.perf_counter() - began < PATIENCE):
        one, mine = _timed(ours.work)
        two, other = _timed(theirs.work)
        pairs.append((one, two))
    return pairs, ours.judge(mine), theirs.judge(other)


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    with threadpool_limits(count):
        yield
    torch.set_num_threads(before)
