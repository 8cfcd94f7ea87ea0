"""Several models side by side."""

from __future__ import annotations

import pytest

from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.inspection.rows import Totals, UncountedOperators
from modelsurgeon.inspection.side_by_side import SideBySide, distinct_names

BOTH = SideBySide(
    analyses=[
        Analysis(model={"path": "a/net.onnx"}, totals=Totals(macs=5), layers=[], defaults={"N": 1}),
        Analysis(
            model={"path": "b/net.onnx"},
            totals=Totals(macs=7),
            layers=[],
            uncounted=[UncountedOperators(op="Magic", count=1, reason="nobody knows")],
        ),
    ]
)


def test_one_row_per_model() -> None:
    [table] = BOTH.tables()
    assert [(row["model"], row["macs"]) for row in table.rows] == [("a/net.onnx", 5), ("b/net.onnx", 7)]
    assert table.notes == ["a/net.onnx: shown for N = 1", "b/net.onnx: not counted are Magic"]
    assert [one["totals"]["macs"] for one in BOTH.as_dict()] == [5, 7]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x.onnx"], ["x.onnx"]),
        (["d/x.onnx", "x.onnx"], ["d/x.onnx", "x.onnx"]),
        (["/d/x.onnx", "x.onnx"], ["/d/x.onnx", "x.onnx"]),
        (["model", "model"], ["model", "model"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths: list[str], names: list[str]) -> None:
    assert distinct_names(paths) == names
