"""Bar plot of a sequence of numbers: block characters in a terminal, SVG in a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

from modelsurgeon.report.formatting import Kind, escape, show

BLOCK_CHARACTERS = " ▁▂▃▄▅▆▇█"
MAX_TEXT_WIDTH, TEXT_HEIGHT, MAX_BAR_WIDTH = 100, 6, 4  # in characters; the last of one value's bar
CANVAS_WIDTH, CANVAS_HEIGHT = 900, 160  # of the SVG, in its own units


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Plot of non-negative values against their index, with one of them marked.

    kind: format of the values. axis: what the index counts, such as `node`. mark: index of the marked value.
    label: its name.
    """

    values: Sequence[float]
    kind: Kind
    axis: str
    mark: int | None = None
    label: str = ""

    def text(self, width: int, *, plain: bool = False) -> list[str]:
        """Lines of at most `width` characters: an axis with the largest value, the bars, and the mark below.

        Where there are more values than characters, a bar shows the largest of its values. plain: ASCII.
        """
        if not self.values:
            return []
        top = show(max(self.values), self.kind)
        columns = max(1, min(width - len(top) - 2, MAX_TEXT_WIDTH))
        bar_width = min(max(1, columns // len(self.values)), MAX_BAR_WIDTH)
        bins = [value for value in binned(self.values, columns) for _ in range(bar_width)]
        rows = _blocks(bins, TEXT_HEIGHT, plain=plain)
        blank, side = " " * len(top), "|" if plain else "│"
        first = f"{top} {'+' if plain else '┤'}{rows[0]}"
        rest = [f"{blank} {side}{row}" for row in rows[1:]]
        foot = f"{'0':>{len(top)}} {'+' if plain else '└'}{('-' if plain else '─') * len(bins)}"
        marked = self._mark_lines(len(top) + 2, len(bins), width)
        return [line.rstrip() for line in (first, *rest, foot, *marked)]

    def _mark_lines(self, left: int, across: int, width: int) -> list[str]:
        """The lines with the mark and its caption, on the side with enough room."""
        if self.mark is None:
            return []
        at = left + (2 * self.mark + 1) * across // (2 * len(self.values))
        caption = escape(self.caption)
        if at + 2 + len(caption) <= width:
            return [f"{' ' * at}^ {caption}"]
        if len(caption) + 1 <= at:
            return [f"{caption:>{at - 1}} ^"]
        return [f"{' ' * at}^", *wrap(caption, width)]

    @property
    def caption(self) -> str:
        """A sentence with the marked value, its name and its index."""
        if self.mark is None:
            return ""
        value = show(self.values[self.mark], self.kind)
        return f"{value} at {self.label} ({self.axis} {self.mark + 1} of {len(self.values)})"

    def svg(self) -> str:
        """An SVG figure for a page, whose style sheet colors it."""
        top = max(self.values, default=0) or 1
        step = CANVAS_WIDTH / max(1, len(self.values))
        points = [f"M0 {CANVAS_HEIGHT}"]
        for number, value in enumerate(self.values):
            height = CANVAS_HEIGHT * (1 - value / top)
            points.append(f"V{height:.1f}H{(number + 1) * step:.1f}")
        caption = html.escape(escape(self.caption))
        return (
            f'<figure class="plot"><svg viewBox="0 0 {CANVAS_WIDTH} {CANVAS_HEIGHT + 2}" role="img" '
            f'preserveAspectRatio="none"><title>{caption}</title>'
            f'<path class="area" d="{"".join(points)}V{CANVAS_HEIGHT}Z"/>{self._line(step)}</svg>'
            f"<figcaption>{caption}</figcaption></figure>\n"
        )

    def _line(self, step: float) -> str:
        if self.mark is None:
            return ""
        x = (self.mark + 0.5) * step
        return f'<path class="mark" d="M{x:.1f} 0V{CANVAS_HEIGHT}"/>'


def binned(values: Sequence[float], count: int) -> list[float]:
    """At most `count` values, each the largest of a run of consecutive ones.

    >>> binned([1, 5, 2, 2, 9, 0], 3)
    [5, 2, 9]
    """
    count = min(count, len(values))
    edges = [number * len(values) // count for number in range(count + 1)] if count else []
    return [max(values[start:end]) for start, end in pairwise(edges)]


def _blocks(values: Sequence[float], height: int, *, plain: bool) -> list[str]:
    """Rows of block characters from the top down; a value above 0 always shows."""
    top = max(values) or 1
    eighths = [max(round(8 * height * value / top), 1 if value else 0) for value in values]
    rows = range(height - 1, -1, -1)
    return ["".join(_block(size - 8 * row, plain=plain) for size in eighths) for row in rows]


def _block(eighths: int, *, plain: bool) -> str:
    filled = min(max(eighths, 0), 8)
    return ("#" if filled >= 4 else " ") if plain else BLOCK_CHARACTERS[filled]
