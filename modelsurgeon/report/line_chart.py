"""Lines over common places, drawn in a page: errors along a net, or against what was kept of it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

from modelsurgeon.report.formatting import Kind, escape, show

CHART_WIDTH, CHART_HEIGHT = 900, 260  # of the drawing, in its own units, as are all that follow
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 64, 20, 12, 44
LETTER_WIDTH = 8  # about the width of one
MAX_TICKS = 5  # at most so many steps of the upright axis


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """Values by place, none negative; None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over places with labels. at: where these lie, evenly spaced if None. axis: what they are.

    kind: how a value is written. Terminals show the rows of the table only: they hold the same numbers.
    """

    lines: Sequence[ChartLine]
    labels: Sequence[str]
    axis: str
    at: Sequence[float] | None = None
    kind: Kind = "float"

    def text(self, width: int, *, plain: bool = False) -> list[str]:  # noqa: ARG002 - as a `Plot` has it
        """No lines."""
        return []

    def svg(self) -> str:
        """A drawing that stands in a page by itself; its colours are those of the page."""
        top = _round_up(max((v for line in self.lines for v in _numbers(line)), default=0.0))
        drawn = [*self._grid(top), *self._names()]
        for number, line in enumerate(self.lines):
            drawn += self._drawn(number, line, top)
        keys = " ".join(
            f'<span class="key line-{number}">{_safe(line.name)}</span>'
            for number, line in enumerate(self.lines)
        )
        return (
            f'<figure class="chart"><svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img">'
            f"<title>{_safe(self.axis)}</title>{''.join(drawn)}</svg><figcaption>{keys}</figcaption></figure>\n"
        )

    def _x(self, place: int) -> float:
        at = self.at or range(len(self.labels))
        low, high = min(at), max(at)
        share = (at[place] - low) / (high - low) if high > low else 0.5
        return (
            MARGIN_LEFT + self._inset + share * (CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT - 2 * self._inset)
        )

    @property
    def _widest(self) -> int:
        return LETTER_WIDTH * max(map(len, self.labels), default=0)

    @property
    def _labelled(self) -> bool:
        """Whether there is room for what stands at every place."""
        return len(self.labels) * self._widest < CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT

    @property
    def _inset(self) -> float:
        """From the ends of the axis to the outermost places."""
        return self._widest / 2 if self._labelled else 10

    def _grid(self, top: float) -> Iterator[str]:
        """Level lines, each with its value."""
        step = _step(top)
        for number in range(round(top / step) + 1):
            y = _y(number * step, top)
            yield f'<path class="grid" d="M{MARGIN_LEFT} {y:.1f}H{CHART_WIDTH - MARGIN_RIGHT}"/>'
            told = show(number * step, self.kind)
            yield f'<text x="{MARGIN_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{told}</text>'

    def _names(self) -> Iterator[str]:
        """The axis and, where there is room, what stands at each place; else the first and the last."""
        middle = (MARGIN_LEFT + CHART_WIDTH - MARGIN_RIGHT) / 2
        yield f'<text x="{middle:.1f}" y="{CHART_HEIGHT - 6}" text-anchor="middle">{_safe(self.axis)}</text>'
        places = range(len(self.labels)) if self._labelled else (0, len(self.labels) - 1)
        for place in places:
            anchor = "middle" if self._labelled else "start" if place == 0 else "end"
            x, y = self._x(place), CHART_HEIGHT - MARGIN_BOTTOM + 18
            yield f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{_safe(self.labels[place])}</text>'

    def _drawn(self, number: int, line: ChartLine, top: float) -> Iterator[str]:
        """The line through its points; each of them tells its value where one points at it."""
        there = [(p, v) for p, v in enumerate(line.values) if v is not None and isfinite(v)]
        points = [(self._x(place), _y(value, top)) for place, value in there]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="line-{number}" points="{path}"/>'
        for (x, y), (place, value) in zip(points, there, strict=True):
            told = f"{_safe(self.labels[place])}: {_safe(line.name)} {show(value, self.kind)}"
            place_of = f'cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
            yield f'<circle class="line-{number}" {place_of}><title>{told}</title></circle>'


def _numbers(line: ChartLine) -> Iterator[float]:
    return (value for value in line.values if value is not None and isfinite(value))


def _y(value: float, top: float) -> float:
    return MARGIN_TOP + (CHART_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM) * (1 - value / top)


def _step(top: float) -> float:
    """A round distance between level lines.

    >>> _step(0.6), _step(30)
    (0.2, 10.0)
    """
    least = top / MAX_TICKS
    scale = 10.0 ** floor(log10(least))
    return next(n * scale for n in (1, 2, 5, 10) if n * scale >= least * (1 - 1e-9))


def _round_up(value: float) -> float:
    """The level line at or above a value.

    >>> _round_up(0.53), _round_up(0.0)
    (0.6000000000000001, 1.0)
    """
    if value <= 0:
        return 1.0
    step = _step(value)
    return step * -(-value * (1 - 1e-9) // step)


def _safe(text: str) -> str:
    return html.escape(escape(text))
