"""Numbers of a sweep's points: shares kept, the worst output, and predictions that failed."""

from __future__ import annotations

import pytest

from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.comparison.metrics import Metrics
from modelsurgeon.compression.frontier import Frontier, FrontierPoint
from modelsurgeon.compression.result import Result
from modelsurgeon.surgery.plan import Plan


def point(fraction: float, measured: float, predicted: float | None, *top1: float) -> FrontierPoint:
    outputs = [
        Metrics(name=f"y{n}", rel_l2=measured / (n + 1), top1_agreement=share, identical=False)
        for n, share in enumerate(top1 or (1.0,))
    ]
    result = Result(
        model=None,
        before={"macs": 200, "params": 50},
        after={"macs": 200 * fraction, "params": 20},
        edits=(),
        comparison=Comparison(outputs=outputs, verdict="different", tolerance=0.1, samples=3),
        latency=None,
        plan=Plan({}),
        predicted=predicted,
    )
    return FrontierPoint(fraction=fraction, result=result)


def test_what_is_kept_is_after_over_before() -> None:
    found = point(0.25, 0.1, 0.1)
    assert (found.kept("macs"), found.kept("params"), found.kept("bytes")) == (0.25, 0.4, None)


def test_the_worst_output_is_shown() -> None:
    table = Frontier(of="macs", points=[point(0.5, 0.2, 0.2, 0.9, 0.4, 1.0)]).tables()[0]
    [row] = table.rows
    assert (row["top1"], row["measured"], row["macs_kept"]) == (0.4, 0.2, 0.5)


@pytest.mark.parametrize(
    ("measured", "predicted", "words"),
    [
        (0.3, 0.1, "at 0.5: measured is 3 times what was predicted"),
        (0.1, 0.4, "at 0.5: measured is 4 times less than predicted"),
        (0.1, 0.12, ""),
        (0.1, None, ""),
    ],
)
def test_a_point_that_was_not_predicted_is_noted(
    measured: float, predicted: float | None, words: str
) -> None:
    notes = Frontier(of="macs", points=[point(0.5, measured, predicted)]).tables()[0].notes
    assert [note[: len(words)] for note in notes] == ([words] if words else [])
