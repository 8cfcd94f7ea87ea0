"""Columns and rows of a table, and the protocol of a table that layouts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from modelsurgeon.report import formatting
from modelsurgeon.report.formatting import Kind

if TYPE_CHECKING:
    from modelsurgeon.report.bar_plot import Plot
    from modelsurgeon.report.line_chart import Chart


Row = Mapping[str, Any]

LEFT_ALIGNED = ("text", "prose", "bar", "spark")
BAR_WIDTH = 10


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: the key of its values in a row, its title, and the format of its values.

    kind: text (shortened in the middle where space is short), prose (wrapped), int, count (1.23 G),
    bytes (1.23 MB), percent and bar (both of a fraction), spark (of several), float, shape.
    style: a rich style, used in terminals only. wide: in terminals, shown only where there is space.
    level: the key of a row's level in a tree; then the last part of a dotted name is shown, indented by
    level.
    """

    key: str
    title: str
    kind: Kind = "text"
    style: str | None = None
    wide: bool = False
    level: str | None = None

    @property
    def left(self) -> bool:
        """Whether cells are left-aligned; numbers are right-aligned."""
        return self.kind in LEFT_ALIGNED

    def depth(self, row: Row) -> int:
        """Indentation of the cell, in levels."""
        return int(row.get(self.level) or 0) if self.level else 0

    def text(self, row: Row) -> str:
        """The cell as text for people; in a tree, without the prefix that the row above shows."""
        value = row.get(self.key)
        if self.depth(row) and isinstance(value, str):
            value = value.rpartition(".")[2]
        return formatting.show(value, self.kind)


class Tabular(Protocol):
    """Attributes of a table that a layout reads."""

    @property
    def title(self) -> str:
        """The line above the table."""

    @property
    def columns(self) -> Sequence[Column]:
        """The columns from left to right."""

    @property
    def rows(self) -> Sequence[Row]:
        """The rows from top to bottom."""

    @property
    def total(self) -> Row | None:
        """The last row, below a rule."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences below the table."""

    @property
    def plot(self) -> Plot | Chart | None:
        """The plot above the rows."""
