"""Line chart as SVG: such as errors by layer, or errors against the share of MACs kept."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

from modelsurgeon.report.formatting import Kind, escape, show

CHART_WIDTH, CHART_HEIGHT = 900, 260  # of the SVG, in its own units, as the lengths below
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 64, 20, 12, 44
LETTER_WIDTH = 8  # approximate
MAX_TICKS = 5  # largest number of steps on the vertical axis


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """Non-negative values by position; None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over labeled positions. axis: title of the horizontal axis.

    at: x coordinates of the positions, evenly spaced if None. kind: format of the values. Terminals show only
    the rows of the table, which hold the same numbers.
    """

    lines: Sequence[ChartLine]
    labels: Sequence[str]
    axis: str
    at: Sequence[float] | None = None
    kind: Kind = "float"

    def text(self, width: int, *, plain: bool = False) -> list[str]:  # noqa: ARG002 - the signature of `Plot.text`
        """An empty list: a chart isn't drawn in text."""
        return []

    def svg(self) -> str:
        """An SVG figure for a page, whose style sheet colors it."""
        top = _round_up(max((v for line in self.lines for v in _finite_values(line)), default=0.0))
        elements = [*self._grid(top), *self._axis_labels()]
        for number, line in enumerate(self.lines):
            elements += self._line_elements(number, line, top)
        keys = " ".join(
            f'<span class="key line-{number}">{_safe(line.name)}</span>'
            for number, line in enumerate(self.lines)
        )
        return (
            f'<figure class="chart"><svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img">'
            f"<title>{_safe(self.axis)}</title>{''.join(elements)}</svg><figcaption>{keys}</figcaption></figure>\n"
        )

    def _x(self, index: int) -> float:
        at = self.at or range(len(self.labels))
        low, high = min(at), max(at)
        share = (at[index] - low) / (high - low) if high > low else 0.5
        return (
            MARGIN_LEFT + self._inset + share * (CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT - 2 * self._inset)
        )

    @property
    def _label_width(self) -> int:
        return LETTER_WIDTH * max(map(len, self.labels), default=0)

    @property
    def _labels_fit(self) -> bool:
        """Whether there is room for a label at every position."""
        return len(self.labels) * self._label_width < CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT

    @property
    def _inset(self) -> float:
        """Distance from the ends of the axis to the outermost positions."""
        return self._label_width / 2 if self._labels_fit else 10

    def _grid(self, top: float) -> Iterator[str]:
        """Horizontal grid lines, each with its value; top: the largest one."""
        step = _step(top)
        for number in range(round(top / step) + 1):
            y = _y(number * step, top)
            yield f'<path class="grid" d="M{MARGIN_LEFT} {y:.1f}H{CHART_WIDTH - MARGIN_RIGHT}"/>'
            value = show(number * step, self.kind)
            yield f'<text x="{MARGIN_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>'

    def _axis_labels(self) -> Iterator[str]:
        """The title of the axis and the labels; only the first and last where there is no room for all."""
        middle = (MARGIN_LEFT + CHART_WIDTH - MARGIN_RIGHT) / 2
        yield f'<text x="{middle:.1f}" y="{CHART_HEIGHT - 6}" text-anchor="middle">{_safe(self.axis)}</text>'
        indices = range(len(self.labels)) if self._labels_fit else (0, len(self.labels) - 1)
        for index in indices:
            anchor = "middle" if self._labels_fit else "start" if index == 0 else "end"
            x, y = self._x(index), CHART_HEIGHT - MARGIN_BOTTOM + 18
            yield f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{_safe(self.labels[index])}</text>'

    def _line_elements(self, number: int, line: ChartLine, top: float) -> Iterator[str]:
        """A line and its points; each point shows its value as a tooltip."""
        known = [(p, v) for p, v in enumerate(line.values) if v is not None and isfinite(v)]
        points = [(self._x(index), _y(value, top)) for index, value in known]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="line-{number}" points="{path}"/>'
        for (x, y), (index, value) in zip(points, known, strict=True):
            tooltip = f"{_safe(self.labels[index])}: {_safe(line.name)} {show(value, self.kind)}"
            circle = f'cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
            yield f'<circle class="line-{number}" {circle}><title>{tooltip}</title></circle>'


def _finite_values(line: ChartLine) -> Iterator[float]:
    return (value for value in line.values if value is not None and isfinite(value))


def _y(value: float, top: float) -> float:
    return MARGIN_TOP + (CHART_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM) * (1 - value / top)


def _step(top: float) -> float:
    """A round distance between grid lines.

    >>> _step(0.6), _step(30)
    (0.2, 10.0)
    """
    least = top / MAX_TICKS
    scale = 10.0 ** floor(log10(least))
    return next(n * scale for n in (1, 2, 5, 10) if n * scale >= least * (1 - 1e-9))


def _round_up(value: float) -> float:
    """The grid line at or above a value.

    >>> _round_up(0.53), _round_up(0.0)
    (0.6000000000000001, 1.0)
    """
    if value <= 0:
        return 1.0
    step = _step(value)
    return step * -(-value * (1 - 1e-9) // step)


def _safe(text: str) -> str:
    return html.escape(escape(text))
