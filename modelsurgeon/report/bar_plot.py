"""A row of numbers as a small picture: blocks in a terminal, a drawing in a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

from modelsurgeon.report.formatting import Kind, escape, show

BLOCK_CHARACTERS = " ▁▂▃▄▅▆▇█"
MAX_TEXT_WIDTH, TEXT_HEIGHT, MAX_BAR_WIDTH = 100, 6, 4  # a picture in characters; the last is of one value
CANVAS_WIDTH, CANVAS_HEIGHT = 900, 160  # of the drawing, in its own units


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Values, none negative, against their index, with one of them marked.

    kind: how a value is written. axis: what the index counts, such as `node`. mark: an index.
    label: what stands there.
    """

    values: Sequence[float]
    kind: Kind
    axis: str
    mark: int | None = None
    label: str = ""

    def text(self, width: int, *, plain: bool = False) -> list[str]:
        """Lines of at most `width` characters: an axis with its top, blocks, and the mark below.

        Where there are more values than characters, each stands for the largest of its values. plain: ASCII.
        """
        if not self.values:
            return []
        top = show(max(self.values), self.kind)
        room = max(1, min(width - len(top) - 2, MAX_TEXT_WIDTH))
        each = min(max(1, room // len(self.values)), MAX_BAR_WIDTH)
        bins = [value for value in binned(self.values, room) for _ in range(each)]
        rows = _blocks(bins, TEXT_HEIGHT, plain=plain)
        blank, side = " " * len(top), "|" if plain else "│"
        first = f"{top} {'+' if plain else '┤'}{rows[0]}"
        rest = [f"{blank} {side}{row}" for row in rows[1:]]
        foot = f"{'0':>{len(top)}} {'+' if plain else '└'}{('-' if plain else '─') * len(bins)}"
        marked = self._marked(len(top) + 2, len(bins), width)
        return [line.rstrip() for line in (first, *rest, foot, *marked)]

    def _marked(self, left: int, across: int, width: int) -> list[str]:
        """The lines that name the marked value, on the side where there is room."""
        if self.mark is None:
            return []
        at = left + (2 * self.mark + 1) * across // (2 * len(self.values))
        told = escape(self.caption)
        if at + 2 + len(told) <= width:
            return [f"{' ' * at}^ {told}"]
        if len(told) + 1 <= at:
            return [f"{told:>{at - 1}} ^"]
        return [f"{' ' * at}^", *wrap(told, width)]

    @property
    def caption(self) -> str:
        """The marked value in words."""
        if self.mark is None:
            return ""
        value = show(self.values[self.mark], self.kind)
        return f"{value} at {self.label} ({self.axis} {self.mark + 1} of {len(self.values)})"

    def svg(self) -> str:
        """A drawing that stands in a page by itself; its colours are those of the page."""
        top = max(self.values, default=0) or 1
        step = CANVAS_WIDTH / max(1, len(self.values))
        points = [f"M0 {CANVAS_HEIGHT}"]
        for number, value in enumerate(self.values):
            height = CANVAS_HEIGHT * (1 - value / top)
            points.append(f"V{height:.1f}H{(number + 1) * step:.1f}")
        told = html.escape(escape(self.caption))
        return (
            f'<figure class="plot"><svg viewBox="0 0 {CANVAS_WIDTH} {CANVAS_HEIGHT + 2}" role="img" '
            f'preserveAspectRatio="none"><title>{told}</title>'
            f'<path class="area" d="{"".join(points)}V{CANVAS_HEIGHT}Z"/>{self._line(step)}</svg>'
            f"<figcaption>{told}</figcaption></figure>\n"
        )

    def _line(self, step: float) -> str:
        if self.mark is None:
            return ""
        x = (self.mark + 0.5) * step
        return f'<path class="mark" d="M{x:.1f} 0V{CANVAS_HEIGHT}"/>'


def binned(values: Sequence[float], count: int) -> list[float]:
    """At most `count` values: the largest of each run of neighbours.

    >>> binned([1, 5, 2, 2, 9, 0], 3)
    [5, 2, 9]
    """
    count = min(count, len(values))
    edges = [number * len(values) // count for number in range(count + 1)] if count else []
    return [max(values[start:end]) for start, end in pairwise(edges)]


def _blocks(values: Sequence[float], height: int, *, plain: bool) -> list[str]:
    """Rows of blocks from the top down; what is there but small still shows."""
    top = max(values) or 1
    eighths = [max(round(8 * height * value / top), 1 if value else 0) for value in values]
    rows = range(height - 1, -1, -1)
    return ["".join(_block(size - 8 * row, plain=plain) for size in eighths) for row in rows]


def _block(eighths: int, *, plain: bool) -> str:
    filled = min(max(eighths, 0), 8)
    return ("#" if filled >= 4 else " ") if plain else BLOCK_CHARACTERS[filled]
