"""Columns of a table, the rows they read, and what a layout asks of a table."""

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
    """One column: the key of its values in a row, its title, and how values are written.

    kind: text (shortened in the middle where room is short), prose (wrapped), int, count (1.23 G),
    bytes (1.23 MB), percent and bar (both of a fraction), spark (of several), float, shape.
    style: a rich style, used in terminals only. wide: in terminals, shown only where there is room.
    level: the key of a row's level in a tree. People then see the last part of a dotted name, set in by it.
    """

    key: str
    title: str
    kind: Kind = "text"
    style: str | None = None
    wide: bool = False
    level: str | None = None

    @property
    def left(self) -> bool:
        """Whether cells stand at the left; numbers stand at the right."""
        return self.kind in LEFT_ALIGNED

    def depth(self, row: Row) -> int:
        """How far the cell is set in."""
        return int(row.get(self.level) or 0) if self.level else 0

    def text(self, row: Row) -> str:
        """The cell as a person reads it; in a tree, without what the row above says already."""
        value = row.get(self.key)
        if self.depth(row) and isinstance(value, str):
            value = value.rpartition(".")[2]
        return formatting.show(value, self.kind)


class Tabular(Protocol):
    """What a layout reads of a table."""

    @property
    def title(self) -> str:
        """The line above."""

    @property
    def columns(self) -> Sequence[Column]:
        """From left to right."""

    @property
    def rows(self) -> Sequence[Row]:
        """From top to bottom."""

    @property
    def total(self) -> Row | None:
        """The last row, set apart."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences below."""

    @property
    def plot(self) -> Plot | Chart | None:
        """The picture above the rows."""
