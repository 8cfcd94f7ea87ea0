"""Tables: formatting of values, layout at a width, and escaping of names in every format."""

import csv
import io
import json
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import Kind, bar, count, escape, percent, plain, shape, show, size
from modelsurgeon.report.table import Table
from modelsurgeon.report.text_layout import head, shorten, stacked

NASTY = "conv[red]\x1b[31m\u202e<b>|\n`=1"
SEEN = "conv[red]\\x1b[31m\\u202e<b>|\\n`=1"

COLUMNS = [
    Column(key="name", title="name"),
    Column(key="op", title="op"),
    Column(key="output", title="output", kind="shape"),
    Column(key="macs", title="MACs", kind="count"),
    Column(key="bytes", title="bytes", kind="bytes", wide=True),
    Column(key="share", title="share", kind="percent"),
    Column(key="share", title="", kind="bar"),
]


def row(name: str = "backbone.stage3.block7.conv2", **more: object) -> dict[str, Any]:
    return {
        "name": name,
        "op": "Conv",
        "output": (1, 64, 56, 56),
        "macs": 1234567890,
        "bytes": 802816,
        "share": 0.25,
        **more,
    }


def table(*rows: dict[str, Any], total: dict[str, Any] | None = None, notes: tuple[str, ...] = ()) -> Table:
    return Table(title="Layers", columns=COLUMNS, rows=rows or (row(),), total=total, notes=notes)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (999_499, "999 k"),
        (999_999, "1.00 M"),
        (1_234_567_890, "1.23 G"),
        (5e21, "5.00e+03 E"),
        (0.5, "0.500"),
        (float("inf"), "inf"),
        (np.int64(2_000_000), "2.00 M"),
    ],
)
def test_counts_have_three_digits_and_a_prefix(value: float, written: str) -> None:
    assert count(value) == written


@given(st.integers(0, 10**20))
def test_a_count_is_true_to_three_digits(value: int) -> None:
    digits, _, unit = count(value).partition(" ")
    scale = 1000 ** ["", "k", "M", "G", "T", "P", "E"].index(unit)
    assert float(digits) * scale == pytest.approx(value, rel=5.01e-3)
    assert len(digits.replace(".", "")) <= 3


def test_bytes_are_decimal() -> None:
    assert size(1_000_000) == "1.00 MB"
    assert size(1024) == "1.02 kB"
    assert size(12) == "12 B"


def test_a_small_share_is_not_shown_as_zero() -> None:
    assert [percent(x) for x in (0.0, 1e-6, 0.0006, 0.999, 1.0)] == [
        "0.0 %",
        "<0.1 %",
        "0.1 %",
        "99.9 %",
        "100.0 %",
    ]


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_is_as_long_as_its_share(share: float, width: int) -> None:
    drawn = bar(share, width)
    assert len(drawn) <= width
    assert abs(len(drawn.rstrip(" ")) - share * width) <= 1
    assert len(bar(share, width, plain=True)) == round(share * width)


def test_shapes_keep_symbols_and_mark_unknown_sizes() -> None:
    assert shape((1, "batch", None)) == "1×batch×?"
    assert shape([(1, 3), None, ()]) == "1×3, ?, scalar"
    assert shape(["\x1b", 1]) == "\\x1b×1"


@pytest.mark.parametrize("kind", ["count", "bytes", "percent", "int", "float", "shape"])
def test_a_formula_is_shown_unchanged(kind: Kind) -> None:
    assert show("4089184256*N", kind) == "4089184256*N"
    assert show(None, kind) == ""


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(text) == text or not text.isprintable()


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(30, 160))
def test_text_fits_its_width_and_keeps_every_number(names: list[str], width: int) -> None:
    printed = table(*(row(name) for name in names), total=row("total")).text(width)
    assert all(cell_len(line) <= width for line in printed.splitlines())
    shown = [line for line in printed.splitlines() if "Conv" in line]
    assert len(shown) == len(names) + 1
    for title, number in (("MACs", "1.23 G"), ("bytes", "803 kB"), ("share", "25.0 %")):
        if title in printed.splitlines()[1].split():
            assert all(number in line for line in shown)
        else:
            assert "not shown at this width" in printed


def test_hidden_columns_are_listed() -> None:
    narrow, wide = table().text(60), table().text(120)
    assert "not shown at this width: bytes" in narrow
    assert "803 kB" in wide
    assert "not shown" not in wide


def test_names_are_shortened_in_the_middle() -> None:
    assert shorten("abcdefghij", 5, 2) == "ab…ij"
    assert shorten("abcde", 5, 2) == "abcde"
    assert cell_len(shorten("日本語日本語", 6, 3)) <= 6


@pytest.mark.parametrize("place", [0, 8, 24])
def test_shortened_names_still_differ(place: int) -> None:
    names = ["x" * place + str(digit) + "y" * (30 - place) for digit in range(10)]
    kept = head(names, 12)
    assert len({shorten(name, 12, kept) for name in names}) == 10


def test_equal_names_are_shortened_in_the_middle() -> None:
    assert head(["same-name-everywhere"] * 3, 9) == 4


def test_a_very_long_name_is_laid_out_quickly() -> None:
    began = time.process_time()
    table(row("n" * 1_000_000)).text(80)
    assert time.process_time() - began < 2


def test_prose_is_wrapped_and_not_cut() -> None:
    message = "a convolution with few channels moves more bytes than it computes"
    prose = Table(
        title="Bottlenecks",
        columns=[Column(key="layer", title="layer"), Column(key="message", title="what", kind="prose")],
        rows=[{"layer": "conv1", "message": message}],
    )
    lines = prose.text(40).splitlines()[3:]
    assert len(lines) > 1
    assert " ".join("\n".join(lines).split()) == f"conv1 {message}"


def test_numbers_are_right_aligned() -> None:
    one, many = table(row(macs=1), row(macs=10**9)).text(100).splitlines()[3:5]
    assert one.index(" 1 ") + len(" 1 ") == many.index("1.00 G ") + len("1.00 G ")


def test_rich_reads_no_markup_in_names() -> None:
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="standard", _environ={}).print(
        table(row(NASTY))
    )
    assert SEEN in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def test_an_ascii_console_gets_ascii_bars_and_rules() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    out = Ascii()
    Console(file=out, width=120, _environ={}).print(table(row(output=None)))
    assert out.getvalue().isascii()
    assert "##" in out.getvalue()


def test_text_and_rich_print_the_same() -> None:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None, _environ={}).print(
        table(total=row("total"), notes=("a note",))
    )
    printed = [line.rstrip() for line in out.getvalue().splitlines()]
    assert printed == table(total=row("total"), notes=("a note",)).text(80).splitlines()


def test_json_keeps_names_exactly_and_is_strict() -> None:
    data = json.loads(table(row(NASTY, macs=np.int64(7), share=float("nan")), notes=("n",)).json())
    assert data["rows"][0]["name"] == NASTY
    assert data["rows"][0]["macs"] == 7
    assert data["rows"][0]["share"] is None
    assert data["notes"] == ["n"]
    assert table(row(NASTY)).json().isascii()


def test_plain_gives_builtin_types() -> None:
    value = {"a": (np.float32(0.5), np.bool_(True)), 1: {"x"}, "n": None, "z": np.array([1.0, np.inf])}
    assert plain(value) == {"a": [0.5, True], "1": ["x"], "n": None, "z": [1.0, None]}


def test_csv_has_each_key_once_and_full_numbers() -> None:
    read = list(csv.DictReader(io.StringIO(table(row(), row("b", macs="3*N")).csv())))
    assert list(read[0]) == ["name", "op", "output", "macs", "bytes", "share"]
    assert read[0]["macs"] == "1234567890"
    assert read[0]["output"] == "1×64×56×56"
    assert read[1]["macs"] == "3*N"


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x"])
def test_csv_quotes_names_that_look_like_formulas(name: str) -> None:
    assert table(row(name)).csv().splitlines()[1].startswith(f"'{name}")
    assert table(row(macs=-1)).csv().splitlines()[1].split(",")[3] == "-1"


def test_csv_escapes_line_ends_in_names() -> None:
    assert len(table(row("a\nb")).csv().splitlines()) == 2


def test_markdown_is_one_table_whatever_the_names() -> None:
    lines = table(row(NASTY), total=row("total")).markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {len(COLUMNS) + 1}
    assert r"conv\[red\]" in rows[2]
    assert r"\<b\>" in rows[2]
    assert "**total**" in rows[3]


def test_markdown_keeps_underscores_inside_names() -> None:
    printed = table(row("layer_1_conv"), row("__init__")).markdown()
    assert "layer_1_conv" in printed
    assert r"\_\_init\_\_" in printed


def test_html_escapes_names_and_draws_bars() -> None:
    page = table(row(NASTY), total=row("total", share=1)).html()
    assert "<b>" not in page
    assert "\x1b" not in page
    assert "conv[red]\\x1b[31m\\u202e&lt;b&gt;|\\n`=1" in page
    assert page.count('<span style="width:25.0%">') == 1
    assert "width:100.0%" not in page


def test_a_table_without_rows_shows_its_header() -> None:
    empty = Table(title="", columns=COLUMNS, rows=())
    assert empty.text(80).splitlines()[0].split()[0] == "name"
    assert empty.csv().count("\n") == 1
    assert empty.markdown().count("\n") == 2
    assert "<caption>" not in empty.html()


def test_notes_replace_an_empty_table() -> None:
    empty = Table(title="Findings", columns=COLUMNS, rows=(), notes=["nothing was found"])
    assert empty.text(80) == "Findings\nnothing was found\n"


def test_html_shows_commands_as_code_broken_only_at_spaces() -> None:
    columns = [Column(key="name", title="name"), Column(key="advice", title="advice", kind="prose")]
    long = "encoder/" * 8
    page = Table(
        title="",
        columns=columns,
        rows=[{"name": "a/b", "advice": "try `x --y <z>` first"}, {"name": long, "advice": "`"}],
        notes=["as `info` says"],
    ).html()
    assert "try <code><span>x</span> <span>--y</span> <span>&lt;z&gt;</span></code> first" in page
    assert '<p class="note">as <code><span>info</span></code> says</p>' in page
    assert ">a/b</td>" in page
    assert page.count("<wbr>") == long.count("/e")


def test_a_spark_is_bars_in_text_and_a_list_in_json() -> None:
    table = Table(
        title="",
        columns=[Column(key="curve", title="Spectrum", kind="spark")],
        rows=[{"curve": [1.0, 0.5, 0.0]}],
    )
    assert "█▅▁" in table.text(40)
    assert "█▅▁" in table.html()
    assert table.as_dict()["rows"] == [{"curve": [1.0, 0.5, 0.0]}]
    console = Console(width=40, file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    assert "940" in capture.get()


def test_the_numbers_of_a_shape_are_never_cut() -> None:
    columns = [Column(key="name", title="Layer"), Column(key="shape", title="Weight", kind="shape")]
    table = Table(title="", columns=columns, rows=[{"name": "n" * 40, "shape": (1024, 512, 3, 3)}])
    assert "1024×512×3×3" in table.text(30)


def test_tables_are_separated_by_a_blank_line() -> None:
    table = Table(title="One", columns=COLUMNS, rows=(), notes=["nothing"])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(stacked([table, table]), stacked([]))
    assert console.export_text().strip() == "One\nnothing\n\nOne\nnothing"
