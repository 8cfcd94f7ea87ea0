"""MACs against accuracy: three arms for each net, and whether ours reaches the promised figures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from modelsurgeon.comparison.metrics import MetricSums
from modelsurgeon.errors import Unreachable
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.run import runner, speedup
from modelsurgeon.report.columns import Column, Row
from modelsurgeon.report.table import Table
from tests.benchmarks.arms import ARMS, Cut
from tests.benchmarks.subjects import Array, Bar, Net, Scores, Subject

T = TypeVar("T")
THREADS = (1, 2)
REPEATS = 20
OURS = "calibrated"
APART = 1.5  # largest ratio of predicted and measured error, either way
EASE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Original:
    """Outputs of the uncut net on the test samples, and its scores. macs: of one feed."""

    subject: Subject
    macs: int
    answers: Sequence[Mapping[str, Array]]
    scores: Scores

    @classmethod
    def of(cls, subject: Subject) -> Original:
        run = runner(subject.model)
        macs = int(analyze(subject.model, shapes=subject.shapes).totals.macs)
        answers = [run(feed) for feed in subject.feeds(subject.test)]
        read = [subject.read(_first(answer)) for answer in answers]
        return cls(subject=subject, macs=macs, answers=answers, scores=subject.score(read, read))

    def judged(self, cut: Cut) -> tuple[Scores, float]:
        """Scores of a cut net, and the relative L2 error of its worst output."""
        run, subject = runner(cut.editable.finish()), self.subject
        tallies: dict[str, MetricSums] = {}
        read, wanted = [], [subject.read(_first(answer)) for answer in self.answers]
        for feed, before in zip(subject.feeds(subject.test), self.answers, strict=True):
            after = run(feed)
            read.append(subject.read(_first(after)))
            for name, array in before.items():
                tallies.setdefault(name, MetricSums(name)).add(array, after[name])
        return subject.score(read, wanted), max(tally.metrics().error for tally in tallies.values())


def _first(answer: Mapping[str, Array]) -> Array:
    return next(iter(answer.values()))


def rows(
    subject: Subject, fractions: Sequence[float], arms: Sequence[str], *, timed: bool = True
) -> Iterator[Row]:
    """The original, then every arm at every fraction."""
    original = Original.of(subject)
    whole = {"arm": "original", "asked": 1.0, "kept": 1.0, "macs": original.macs / subject.batch}
    yield {**whole, **original.scores}
    for name in arms:
        arm, learned = _timed(partial(ARMS[name], subject, timed=timed))
        for fraction in fractions:
            labels = {"arm": name, "asked": fraction, "learned": learned}
            try:
                cut, seconds = _timed(partial(arm, fraction))
            except Unreachable as reason:
                yield {**labels, "methods": str(reason)}
                continue
            times = _times(original, cut) if timed else {}
            yield {**labels, "seconds": seconds, **_measured(original, cut), **times}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _measured(original: Original, cut: Cut) -> dict[str, Any]:
    scores, error = original.judged(cut)
    macs = cut.editable.total("macs")
    return {
        "macs": macs / original.subject.batch,
        "kept": macs / original.macs,
        **scores,
        "error": error,
        "predicted": cut.predicted,
        "methods": ", ".join(
            f"{n} {m}" for m, n in Counter(s.method for s in cut.plan.values()).most_common()
        ),
    }


def _times(original: Original, cut: Cut) -> dict[str, Any]:
    subject, after = original.subject, cut.editable.finish()
    feed = next(iter(subject.feeds(subject.test, batch=1)))
    found = {}
    for threads in THREADS:
        timed = speedup(subject.model, after, feed, repeats=REPEATS, threads=threads)
        found[f"speed{threads}"] = timed.speedup
    return found


def line(net: Net, row: Row) -> str:
    """A row as text, printed before the table is complete."""
    values = ", ".join(f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, float))
    return f"{net.name}, {row['arm']}: {values}"


def table(net: Net, found: Sequence[Row]) -> Table:
    """The table of all arms of a net."""
    whole = found[0]
    figures = [key for key in whole if key not in ("arm", "asked", "kept", "macs")]
    base = ", ".join(f"{figure} {whole[figure]:.3f}" for figure in figures)
    return Table(
        title=f"{net.name}: {whole['macs'] / 1e6:,.1f} M MACs a sample, {base}",
        columns=[
            Column(key="arm", title="arm"),
            Column(key="asked", title="asked", kind="percent"),
            Column(key="kept", title="MACs kept", kind="percent"),
            *(Column(key=figure, title=figure, kind="float") for figure in figures),
            Column(key="error", title="rel L2", kind="float"),
            Column(key="predicted", title="predicted", kind="float"),
            *(Column(key=f"speed{n}", title=f"speed, {n}T", kind="float") for n in THREADS),
            Column(key="learned", title="study, s", kind="int"),
            Column(key="seconds", title="cut, s", kind="int"),
            Column(key="methods", title="methods"),
        ],
        rows=[_whole_seconds(row) for row in found],
        notes=["speed: median of interleaved ratios, one sample; study: once for all fractions of an arm"],
    )


def _whole_seconds(row: Row) -> Row:
    return row | {key: round(row[key]) for key in ("learned", "seconds") if key in row}


def promises(net: Net, found: Sequence[Row]) -> list[Row]:
    """A row for each promise: what was needed, what was found, and whether it held."""
    ours = {row["asked"]: row for row in found if row["arm"] == OURS}
    whole = found[0]
    promised = [_bar(net, bar, ours.get(bar.kept), whole) for bar in net.bars]
    for asked, row in ours.items():
        promised += _of_each(net, asked, row)
    return [row for row in promised if row]


def _bar(net: Net, bar: Bar, row: Row | None, whole: Row) -> Row:
    if row is None or "kept" not in row:
        return {} if row is None else _promise(net, bar.kept, bar.figure, "to be reached", 0.0, False)
    needed = whole[bar.figure] - bar.loss
    got = row[bar.figure]
    return _promise(net, bar.kept, bar.figure, f">= {needed:.4f}", got, got >= needed - EASE, bar.source)


def _of_each(net: Net, asked: float, row: Row) -> Iterator[Row]:
    if row.get("predicted") and row.get("error"):
        apart = row["predicted"] / row["error"]
        near = 1 / APART <= apart <= APART
        yield _promise(net, asked, "predicted / measured", f"{1 / APART:.2f} to {APART:g}", apart, near)
    for threads in THREADS:
        if f"speed{threads}" in row:
            fast = row[f"speed{threads}"] >= 1
            yield _promise(net, asked, f"speed, {threads}T", ">= 1", row[f"speed{threads}"], fast)


def _promise(
    net: Net, asked: float, what: str, needed: str, found: float, held: bool, source: str = ""
) -> Row:
    return {
        "net": net.name,
        "asked": asked,
        "what": what,
        "needed": needed,
        "found": found,
        "held": "held" if held else "NOT HELD",
        "source": source,
    }


def kept(promises: Sequence[Row]) -> Table:
    """The table of the promises of one net or of all."""
    columns = [
        Column(key="net", title="net"),
        Column(key="asked", title="MACs kept", kind="percent"),
        Column(key="what", title="what"),
        Column(key="needed", title="needed"),
        Column(key="found", title="found", kind="float"),
        Column(key="held", title=""),
        Column(key="source", title="from"),
    ]
    broken = sum(row["held"] != "held" for row in promises)
    note = f"{len(promises) - broken} of {len(promises)} held, all of them by the calibrated arm"
    return Table(title="Promises", columns=columns, rows=list(promises), notes=[note])
