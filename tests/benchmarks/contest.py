"""Two ways to do the same, timed side by side: pairs of runs in turn, and the median of their ratios.

A machine that is busy with something else slows both runs of a pair; seconds vary, ratios hardly.
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
PATIENCE = 20.0  # seconds after which no further pair is begun


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run gave: relative error, and the norm ratio of its terms where it is a sum of such."""

    error: float
    ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A way to do it: `work` is timed, `judge` looks at what it returned."""

    work: Callable[[], object]
    judge: Callable[[object], Outcome]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A promise beside an opponent: at most `time` of its seconds, `error` of its error, and `ratio`."""

    time: float = 1.0
    error: float = 1.002
    ratio: float = float("inf")

    def told(self, seconds: float, ours: Outcome, theirs: Outcome) -> str:
        """Whether a median ratio of seconds and two outcomes keep the promise, if there is one."""
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
    """One task, our way to do it, and those of others by name, each with the bar that we set ourselves."""

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
    """One row for each opponent."""
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
                "held": bar.told(seconds, ours, theirs),
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
