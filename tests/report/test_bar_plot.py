"""Bar plots: width, peak values, and escaping of labels."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.report.bar_plot import MAX_BAR_WIDTH, TEXT_HEIGHT, Plot, binned
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

VALUES = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


def plot(values: list[int], mark: int = 0, label: str = "layer") -> Plot:
    return Plot(values=values, kind="bytes", axis="node", mark=mark, label=label)


@given(values=VALUES, width=st.integers(30, 140), plain=st.booleans())
def test_text_fits_the_width(values: list[int], width: int, plain: bool) -> None:
    lines = plot(values, values.index(max(values))).text(width, plain=plain)
    assert max(map(len, lines)) <= width
    assert len(lines) >= TEXT_HEIGHT + 2
    if plain:
        assert all(line.isascii() for line in lines)


@given(values=VALUES, count=st.integers(1, 120))
def test_bins_keep_the_largest_value_and_the_order(values: list[int], count: int) -> None:
    bins = binned(values, count)
    assert len(bins) == min(count, len(values))
    assert max(bins) == max(values)
    assert count < len(values) or bins == values


def test_column_heights_of_zero_tiny_and_largest_value() -> None:
    *rows, foot, mark = plot([0, 1, 4000], 2).text(60)
    columns = ["".join(column) for column in zip(*(row.ljust(22) for row in rows), strict=True)][9:21]
    assert (
        columns
        == [" " * TEXT_HEIGHT] * MAX_BAR_WIDTH
        + [" " * 5 + "▁"] * MAX_BAR_WIDTH
        + ["█" * TEXT_HEIGHT] * MAX_BAR_WIDTH
    )
    assert foot == "      0 └────────────"
    assert mark == " " * 19 + "^ 4.00 kB at layer (node 3 of 3)"


@pytest.mark.parametrize(("mark", "start"), [(0, "^ "), (99, "4.00 kB at")])
def test_the_label_is_on_the_side_with_room(mark: int, start: str) -> None:
    values = [9] * 100
    values[mark] = 4000
    line = plot(values, mark).text(100)[-1]
    assert line.lstrip().startswith(start)
    assert line.index("^") in range(8 + mark * 91 // 100, 12 + mark * 91 // 100)


def test_an_empty_plot_has_no_lines() -> None:
    assert plot([]).text(80) == []


def test_the_svg_is_valid_and_escaped() -> None:
    drawn = ET.fromstring(plot([1, 5, 2], 1, "<b>\x1b&").svg())  # noqa: S314 - our own drawing
    assert "".join(drawn.itertext()).count("5 B at <b>\\x1b& (node 2 of 3)") == 2
    path = next(iter(drawn.iter("path"))).get("d")
    assert path == "M0 160V128.0H300.0V0.0H600.0V96.0H900.0V160Z"


def test_csv_and_json_have_no_plot() -> None:
    table = Table(title="T", columns=[Column(key="a", title="A")], rows=[{"a": 1}], plot=plot([1, 2], 1, "x"))
    caption = "2 B at x (node 2 of 2)"
    assert caption in table.text(80)
    assert caption in table.markdown()
    assert "<svg" in table.html()
    assert caption not in table.csv()
    assert set(table.as_dict()) == {"title", "rows", "total", "notes"}
