"""Line charts: positions of the values, and escaping of names."""

from __future__ import annotations

from math import inf
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.report.columns import Column
from modelsurgeon.report.line_chart import CHART_HEIGHT, CHART_WIDTH, Chart, ChartLine
from modelsurgeon.report.table import Table

VALUES = st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=60)


def drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg())  # noqa: S314 - our own drawing


def circles(figure: ET.Element) -> list[tuple[float, float]]:
    return [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in figure.iter("circle")]


@given(values=VALUES)
def test_every_value_is_a_point_in_the_drawing(values: list[float | None]) -> None:
    labels = [f"layer{number}" for number in range(len(values))]
    points = circles(
        drawn(Chart(lines=[ChartLine(name="error", values=values)], labels=labels, axis="layers"))
    )
    there = [value for value in values if value is not None]
    assert len(points) == len(there)
    assert all(0 <= x <= CHART_WIDTH and 0 <= y <= CHART_HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    larger = sorted(zip(there, (y for _, y in points), strict=True))
    assert [y for _, y in larger] == sorted((y for _, y in larger), reverse=True)


def test_points_are_placed_by_their_x_values() -> None:
    line = ChartLine(name="error", values=[1.0, 2.0, 3.0])
    chart = Chart(lines=[line], labels=["a", "b", "c"], axis="kept", at=[0.9, 0.5, 0.4])
    (right, _), (middle, _), (left, _) = circles(drawn(chart))
    assert abs((right - middle) / (middle - left) - 4) < 0.01


def test_levels_are_round_and_reach_the_largest_value() -> None:
    figure = drawn(
        Chart(lines=[ChartLine(name="e", values=[0.031, 0.053, inf])], labels=["a", "b", "c"], axis="x")
    )
    texts = [text.text for text in figure.iter("text")]
    assert texts[:7] == ["0", "0.02", "0.04", "0.06", "x", "a", "b"]


def test_names_are_escaped() -> None:
    bad = "<b>\x1b&"
    figure = drawn(Chart(lines=[ChartLine(name=bad, values=[1.0])], labels=[bad], axis=bad))
    assert "".join(figure.itertext()).count("<b>\\x1b&") == 6


def test_only_html_has_the_chart() -> None:
    chart = Chart(lines=[ChartLine(name="error", values=[1.0, 2.0])], labels=["a", "b"], axis="layers")
    table = Table(title="T", columns=[Column(key="a", title="A")], rows=[{"a": 1}], plot=chart)
    plain = Table(title="T", columns=[Column(key="a", title="A")], rows=[{"a": 1}])
    assert "<svg" in table.html()
    assert (table.text(80), table.markdown()) == (plain.text(80), plain.markdown())
