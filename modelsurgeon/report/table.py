"""A table as plain data that renders itself: for terminals, as JSON, CSV, Markdown or HTML."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelsurgeon.report import formatting
from modelsurgeon.report.columns import BAR_WIDTH, Column, Row

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelsurgeon.report.bar_plot import Plot
    from modelsurgeon.report.line_chart import Chart


# A spreadsheet evaluates a cell that starts with one of these; a layer's name must not become a formula.
FORMULA_STARTS = ("=", "+", "-", "@")
MARKDOWN_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
NAME_BREAKS = re.compile(r"[./_]\b")  # places where a page may break a long name
BACKQUOTED, NON_SPACE = re.compile(r"`([^`]+)`"), re.compile(r"\S+")
NO_WRAP = r"<span>\g<0></span>"
LONG_NAME = 36  # characters, above which a page may break a name
MARKDOWN_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values under named columns, with an optional line of totals and notes below.

    plot: drawn above the rows: in pages and, for a `Plot`, in text for people too.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    total: Row | None = None
    notes: Sequence[str] = ()
    plot: Plot | Chart | None = None

    def __rich__(self) -> RenderableType:
        """A layout for the width of the console, for rich."""
        from modelsurgeon.report.text_layout import Screen

        return Screen(table=self)

    def text(self, width: int = 100) -> str:
        """Plain text of at most `width` columns; names are shortened, numbers are not."""
        from modelsurgeon.report.text_layout import text

        return text(self, width)

    def as_dict(self) -> dict[str, Any]:
        """The JSON of the table: title, rows and totals by key, and notes."""
        return {
            "title": self.title,
            "rows": [self._values(row) for row in self.rows],
            "total": None if self.total is None else self._values(self.total),
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """`as_dict` as JSON in ASCII, which escapes all special characters of names."""
        return json.dumps(self.as_dict(), indent=2)

    def csv(self) -> str:
        """Header and rows with full numbers; without totals and notes, so that a column can be summed."""
        columns = self._distinct_columns()
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.key for column in columns])
        writer.writerows([_csv_cell(row.get(column.key), column) for column in columns] for row in self.rows)
        return out.getvalue()

    def markdown(self) -> str:
        """A GitHub-flavored Markdown table under its title."""
        lines = [
            _markdown_line([_markdown_escape(column.title) for column in self.columns]),
            _markdown_line([":---" if column.left else "---:" for column in self.columns]),
            *(_markdown_line([_markdown_cell(row, column) for column in self.columns]) for row in self.rows),
        ]
        if self.total is not None:
            lines.append(_markdown_line([_markdown_total(self.total, column) for column in self.columns]))
        parts = [f"### {_markdown_escape(self.title)}"] if self.title else []
        if self.plot is not None and (drawing := self.plot.text(MARKDOWN_WIDTH)):
            parts.append("\n".join(["```text", *drawing, "```"]))
        parts += ["\n".join(lines), *(_markdown_escape(note) for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """A `<table>` with its caption and notes; `report.html.html_page` makes the page and its style."""
        head = "".join(
            f'<th scope="col"{_align(column)}>{_html(column.title)}</th>' for column in self.columns
        )
        body = "\n".join(f"<tr>{_html_cells(row, self.columns)}</tr>" for row in self.rows)
        caption = f"<caption>{_html(self.title)}</caption>\n" if self.title and self.plot is None else ""
        foot = (
            f"<tfoot><tr>{_html_cells(self.total, self.columns, bars=False)}</tr></tfoot>\n"
            if self.total
            else ""
        )
        plot = "" if self.plot is None else f"<h2>{_html(self.title)}</h2>\n{self.plot.svg()}"
        notes = "".join(f'\n<p class="note">{_html_code(_html(note))}</p>' for note in self.notes)
        return (
            f'{plot}<div class="scroll"><table>\n{caption}<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody>\n{foot}</table></div>{notes}\n"
        )

    def _distinct_columns(self) -> list[Column]:
        """The columns with distinct keys: a bar repeats the values of the column next to it."""
        return list({column.key: column for column in reversed(self.columns)}.values())[::-1]

    def _values(self, row: Row) -> dict[str, Any]:
        return {column.key: formatting.plain(row.get(column.key)) for column in self.columns}


def _csv_cell(value: object, column: Column) -> object:
    """The plain value; text is escaped, and quoted where it would be a formula."""
    if isinstance(value, (list, tuple)):
        value = formatting.shape(value)
    if not isinstance(value, str):
        return formatting.plain(value)
    text = formatting.escape(value)
    return f"'{text}" if column.left and text.startswith(FORMULA_STARTS) else text


def _markdown_line(parts: Sequence[str]) -> str:
    return f"| {' | '.join(parts)} |"


def _markdown_escape(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\g<0>", formatting.escape(text))


def _markdown_cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if column.kind == "bar" and formatting.is_number(value):
        return formatting.bar(value, BAR_WIDTH)
    return "· " * column.depth(row) + _markdown_escape(column.text(row))


def _markdown_total(row: Row, column: Column) -> str:
    cell = "" if column.kind == "bar" else _markdown_cell(row, column)
    return f"**{cell}**" if cell else ""


def _html(text: str) -> str:
    return html.escape(formatting.escape(text))


def _align(column: Column) -> str:
    """The class of a cell, by which the page aligns and wraps it."""
    return f' class="{column.kind if column.left else "number"}"'


def _html_cells(row: Row, columns: Sequence[Column], *, bars: bool = True) -> str:
    shown = ("" if column.kind == "bar" and not bars else _html_cell(row, column) for column in columns)
    return "".join(f"<td{_align(column)}>{cell}</td>" for column, cell in zip(columns, shown, strict=True))


def _html_cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if column.kind == "bar" and formatting.is_number(value):
        share = 100 * min(max(value, 0.0), 1.0)
        if not share:
            return ""
        return f'<span class="rail"><span style="width:{share:.1f}%"></span></span>'
    shown = html.escape(column.text(row))
    if depth := column.depth(row):
        return f'<span style="padding-left:{1.2 * depth:.1f}em">{shown}</span>'
    if column.kind == "text" and len(shown) > LONG_NAME:
        broken = NAME_BREAKS.sub(r"\g<0><wbr>", shown)
        return f'<span class="long">{broken}</span>'
    return _html_code(shown) if column.kind == "prose" else shown


def _html_code(text: str) -> str:
    """Commands in backquotes as code, which breaks at spaces only, not inside `--only`."""
    return BACKQUOTED.sub(lambda found: f"<code>{NON_SPACE.sub(NO_WRAP, found[1])}</code>", text)
