"""Layout of a table in a given width: names are shortened, columns are dropped, numbers are never cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from modelsurgeon.report.columns import BAR_WIDTH, Column, Row, Tabular
from modelsurgeon.report.formatting import bar, escape, is_number, spark

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderResult

StyledLine = Sequence[tuple[str, str]]  # pieces of text, each with its style

COLUMN_GAP = "  "
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[kMGTPE]?B|[kMGTPE]|%)(?![A-Za-z]))")
COMFORTABLE_NAME, SHORTEST_NAME, SHORTEST_BAR, SHORTEST_FORMULA = 28, 12, 4, 8
NAME_KINDS, BAR_KINDS = ("text", "prose"), ("bar",)


@dataclass(frozen=True, kw_only=True)
class ColumnSpan:
    """A column with its width (at first that of its longest cell) and its least possible width.

    texts: its cells as text, that of the total last. head: number of leading characters that a shortened
    text keeps.
    """

    column: Column
    texts: Sequence[str]
    width: int
    least: int
    head: int = 0

    @property
    def comfortable(self) -> int:
        """The width at which names are still readable."""
        return (
            max(self.least, min(self.width, COMFORTABLE_NAME))
            if self.column.kind in NAME_KINDS
            else self.least
        )


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A table for a rich console, laid out when the width is known."""

    table: Tabular

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of the table at the width of the console."""
        from rich.text import Text

        for line in lines(self.table, options.max_width, ascii_only=options.ascii_only):
            # Text, not markup: a layer named "[red]" is printed as it is.
            yield Text.assemble(*line, no_wrap=True, overflow="ignore")


def stacked(tables: Sequence[Tabular]) -> Group:
    """Tables one below the other, with an empty line between."""
    from rich.console import Group

    parts = [part for table in tables for part in ("", Screen(table=table))]
    return Group(*parts[1:])


def text(table: Tabular, width: int) -> str:
    """The table as plain text without trailing blanks."""
    plain = ("".join([part for part, _ in line]) for line in lines(table, width))
    return "".join([line.rstrip() + "\n" for line in plain])


def lines(table: Tabular, width: int, *, ascii_only: bool = False) -> list[StyledLine]:
    """Title, header, rows, totals and notes, one styled line each."""
    spans = fit(table, width)
    long = min(width, _total_width(span.width for span in spans))
    rule = [(("-" if ascii_only else "─") * long, "dim")]
    head = _join([(_align(escape(span.column.title), span), "bold") for span in spans])
    out: list[StyledLine] = [[(escape(table.title), "bold")]] if table.title else []
    if table.plot is not None and (drawing := table.plot.text(width, plain=ascii_only)):
        out += [[(line, "cyan")] for line in [*drawing, ""]]
    if table.rows or table.total is not None or not table.notes:
        out += [head, rule]
    for index, row in enumerate(table.rows):
        out += _row(row, spans, index, ascii_only)
    if table.total is not None:
        out += [rule, *_row(table.total, spans, -1, ascii_only, total=True)]
    for note in [*table.notes, *_dropped_columns_note(table, spans)]:
        out += [[(part, "dim")] for part in wrapped(escape(note), width)]
    return out


def fit(table: Tabular, width: int) -> list[ColumnSpan]:
    """The columns that fit this width, each with its final width."""
    spans = [_span(table, column) for column in table.columns if _is_used(table, column)]
    while _total_width(span.comfortable for span in spans) > width:
        if not (wide := [span for span in spans if span.column.wide]):
            break
        spans.remove(wide[-1])
    while _total_width(span.least for span in spans) > width and len(spans) > 1:
        bars = [span for span in spans if span.column.kind == "bar"]
        spans.remove((bars or spans)[-1])
    return [replace(span, head=head(span.texts, span.width)) for span in _shrink(spans, width)]


def _is_used(table: Tabular, column: Column) -> bool:
    return not table.rows or any(row.get(column.key) is not None for row in table.rows)


def _span(table: Tabular, column: Column) -> ColumnSpan:
    title, texts = text_width(column.title), _texts(table, column)
    if column.kind == "bar":
        width, least = max(title, BAR_WIDTH), max(title, SHORTEST_BAR)
        return ColumnSpan(column=column, texts=texts, width=width, least=least)
    natural = _max_width(texts, title)
    if column.kind in NAME_KINDS:
        least = max(title, SHORTEST_NAME)
    else:
        pairs = zip(_all_rows(table), texts, strict=True)
        numbers = (text for row, text in pairs if _is_numeric(row.get(column.key)))
        least = _max_width(numbers, max(title, SHORTEST_FORMULA))
    return ColumnSpan(column=column, texts=texts, width=natural, least=min(natural, least))


def _is_numeric(value: object) -> bool:
    """Whether this is a number or a shape of numbers, which must never be cut."""
    return is_number(value) or (isinstance(value, (list, tuple)) and all(map(is_number, value)))


def _all_rows(table: Tabular) -> list[Row]:
    return [*table.rows, *([table.total] if table.total else [])]


def _texts(table: Tabular, column: Column) -> list[str]:
    return ["  " * column.depth(row) + column.text(row) for row in _all_rows(table)]


def _max_width(texts: Iterable[str], at_least: int) -> int:
    return max([at_least, *map(text_width, set(texts))])


def _total_width(widths: Iterable[int]) -> int:
    sizes = list(widths)
    return sum(sizes) + len(COLUMN_GAP) * (len(sizes) - 1)


def _shrink(spans: Sequence[ColumnSpan], width: int) -> list[ColumnSpan]:
    """Shrink names while they are readable, then bars, then names further, and formulas last."""
    widths = [min(span.width, max(span.least, width)) for span in spans]
    names = [span.column.kind in NAME_KINDS for span in spans]
    bars = [span.column.kind in BAR_KINDS for span in spans]
    floors = [
        [span.comfortable if name else span.width for span, name in zip(spans, names, strict=True)],
        [span.least if one else span.width for span, one in zip(spans, bars, strict=True)],
        [span.least if one else span.width for span, one in zip(spans, names, strict=True)],
        [span.least for span in spans],
    ]
    for floor in floors:
        while _total_width(widths) > width and (wider := [i for i, w in enumerate(widths) if w > floor[i]]):
            widths[max(wider, key=widths.__getitem__)] -= 1
    return [replace(span, width=width) for span, width in zip(spans, widths, strict=True)]


def _row(
    row: Row, spans: Sequence[ColumnSpan], index: int, ascii_only: bool, *, total: bool = False
) -> list[StyledLine]:
    """The lines of a row: one, or as many as its longest wrapped cell."""
    wrapped = [_cell(row, span, index, ascii_only, total) for span in spans]
    return [
        _join([(_align(part, span), _style(span, total)) for part, span in zip(parts, spans, strict=True)])
        for parts in zip_longest(*wrapped, fillvalue="")
    ]


def _cell(row: Row, span: ColumnSpan, index: int, ascii_only: bool, total: bool) -> list[str]:
    value = row.get(span.column.key)
    if span.column.kind == "bar" and is_number(value):
        # A total's bar would always be full.
        return [""] if total else [bar(float(value), span.width, plain=ascii_only)]
    if span.column.kind == "spark" and isinstance(value, (list, tuple)):
        return [spark(value, plain=ascii_only)]
    shown = span.texts[index]
    if span.column.kind == "prose":
        return wrapped(shown, span.width) or [""]
    return [shorten(shown, span.width, span.head)]


def _style(span: ColumnSpan, total: bool) -> str:
    return "bold" if total else span.column.style or ("cyan" if span.column.kind == "bar" else "")


def _align(part: str, span: ColumnSpan) -> str:
    blank = " " * (span.width - text_width(part))
    return part + blank if span.column.left else blank + part


def _join(cells: StyledLine) -> StyledLine:
    return [piece for cell in cells for piece in ((COLUMN_GAP, ""), cell)][1:]


def text_width(text: str) -> int:
    """The number of terminal cells that a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; a number and its unit stay together.

    >>> wrapped("at most 1.19 MB at once", 14)
    ['at most', '1.19 MB at', 'once']
    """
    lines = wrap(BEFORE_UNIT.sub(NO_BREAK_SPACE, text), width, break_on_hyphens=False)
    return [line.replace(NO_BREAK_SPACE, " ") for line in lines]


def shorten(name: str, width: int, head: int) -> str:
    """The name, with the part after `head` characters replaced by an ellipsis where it is wider than `width`.

    >>> shorten("backbone.stage3.block7.conv2", 15, 7)
    'backbon…7.conv2'
    """
    if text_width(name) <= width:
        return name
    end = set_cell_size(name[::-1], width - 1 - head)[::-1]
    return f"{set_cell_size(name, head)}…{end}"


def head(names: Sequence[str], width: int) -> int:
    """The number of leading characters to keep so that most shortened names differ; about half on a tie.

    >>> head(["encoder.block.0.conv", "encoder.block.1.conv"], 8)
    1
    """
    if not (long := {name for name in set(names) if text_width(name) > width}):
        return 0

    def differ(kept: int) -> tuple[int, int]:
        return len({shorten(name, width, kept) for name in long}), -abs(2 * kept - width)

    return max(range(width), key=differ)


def _dropped_columns_note(table: Tabular, spans: Sequence[ColumnSpan]) -> list[str]:
    shown = [span.column for span in spans]
    dropped = [
        column.title
        for column in table.columns
        if column not in shown and column.kind != "bar" and _is_used(table, column)
    ]
    return [f"not shown at this width: {', '.join(dropped)}"] if dropped else []
