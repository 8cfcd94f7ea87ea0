"""Channels of a layer that do nothing, hold NaN or Inf, or repeat another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from modelsurgeon.inspection.statistics.spread import ELEMENT_BLOCK
from modelsurgeon.layers import Array, Layer

DEAD_RATIO = 1e-6  # of the layer's largest magnitude: what is smaller in all its weights does nothing
SAME_DISTANCE = 1e-6  # distance of two channels of norm 1, up to which one is the other times a factor

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ChannelFindings:
    """Of a layer's channels, by number: which are dead, broken or there twice.

    dead: outputs whose weights are all 0, or all smaller than `DEAD_RATIO` of the layer's largest.
    dead_inputs: the same of inputs. broken: outputs with a NaN or Inf among their weights. duplicates:
    outputs with the very same weights, together. scaled: outputs that are each other times a factor,
    together; one of every group of duplicates stands for the others. Only outputs that see the same inputs
    are compared; biases are not.
    """

    outputs: int
    inputs: int
    dead: tuple[int, ...] = ()
    dead_inputs: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    duplicates: Groups = field(default=())
    scaled: Groups = field(default=())

    @property
    def spare(self) -> int:
        """Outputs that could be left out: of each group of duplicates, all but one."""
        return sum(len(group) - 1 for group in self.duplicates)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "outputs": self.outputs,
            "inputs": self.inputs,
            "dead_outputs": list(self.dead),
            "dead_inputs": list(self.dead_inputs),
            "nonfinite_outputs": list(self.broken),
            "duplicate_outputs": [list(group) for group in self.duplicates],
            "scaled_outputs": [list(group) for group in self.scaled],
        }


def channels(layer: Layer) -> ChannelFindings:
    """What is to be said of a layer's channels."""
    peaks, inputs = _peaks(layer)
    finite = np.isfinite(peaks)
    least = DEAD_RATIO * float(peaks[finite].max(initial=0.0))
    dead = peaks <= least
    lively = finite & ~dead
    duplicates: list[tuple[int, ...]] = []
    scaled: list[tuple[int, ...]] = []
    for start, rows in _by_group(layer):
        alive = np.flatnonzero(lively[start : start + len(rows)])
        same = _same(rows, alive)
        first = np.array([group[0] for group in same], np.intp)
        duplicates += [_shifted(group, start) for group in same if len(group) > 1]
        scaled += [_shifted(group, start) for group in _proportional(rows, first)]
    return ChannelFindings(
        outputs=layer.out_channels,
        inputs=layer.in_channels,
        dead=_numbers(dead),
        dead_inputs=_numbers(inputs <= least),
        broken=_numbers(~finite),
        duplicates=tuple(duplicates),
        scaled=tuple(scaled),
    )


def _numbers(mask: Array) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _shifted(group: Iterable[int], start: int) -> tuple[int, ...]:
    return tuple(int(number) + start for number in group)


def _by_group(layer: Layer) -> Iterator[tuple[int, Array]]:
    """The weights of each group as a matrix, one output a row, with the number of its first output."""
    size = layer.out_channels // layer.groups
    if layer.weight.size and size > 1:
        for start in range(0, layer.out_channels, size):
            yield start, layer.weight[start : start + size].reshape(size, -1)


def _row_blocks(rows: Array) -> Iterator[tuple[int, Array]]:
    step = max(1, ELEMENT_BLOCK // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def _peaks(layer: Layer) -> tuple[Array, Array]:
    """Largest magnitude of each output, and of each input; NaN or Inf where one of an output's weights is."""
    size = layer.out_channels // layer.groups
    peaks = np.zeros(layer.out_channels)
    inputs = np.zeros((layer.groups, layer.weight.shape[1]))
    for group, own in enumerate(inputs):
        first = group * size
        for start, block in _row_blocks(layer.weight[first : first + size]):
            found = np.abs(block.astype(np.float64)).reshape(*block.shape[:2], -1).max(axis=2, initial=0.0)
            peaks[first + start : first + start + len(block)] = found.max(axis=1, initial=0.0)
            np.fmax(own, np.fmax.reduce(found, axis=0, initial=0.0), out=own)
    return peaks, inputs.ravel()


def _same(rows: Array, wanted: Array) -> list[list[int]]:
    """The wanted rows, those with equal content together."""
    groups: dict[bytes, list[int]] = {}
    for number in wanted.tolist():
        content = rows[number] + rows.dtype.type(0)  # -0.0 becomes 0.0
        groups.setdefault(blake2b(content.tobytes(), digest_size=16).digest(), []).append(number)
    return list(groups.values())


def _proportional(rows: Array, wanted: Array) -> list[list[int]]:
    """Those of the wanted rows that are multiples of each other, together.

    Rows of norm 1 that are equal up to sign have equal magnitudes when projected on anything: only those
    that lie close to each other on two random projections are compared as a whole.
    """
    if rows.shape[1] < 2 or len(wanted) < 2:
        return []
    views, norms = _projections(rows, wanted)
    order = np.argsort(views[:, 0])
    near = views[order]
    found: list[tuple[int, int]] = []
    for step in range(1, len(order)):
        close = np.abs(near[step:] - near[:-step]) <= SAME_DISTANCE
        if not close[:, 0].any():
            break
        for place in np.flatnonzero(close.all(axis=1)).tolist():
            found.append((int(order[place]), int(order[place + step])))
    alike = [
        pair for pair in found if _distance(rows[wanted[list(pair)]], norms[list(pair)]) <= SAME_DISTANCE
    ]
    return [sorted(int(wanted[number]) for number in group) for group in _connected(alike)]


def _projections(rows: Array, wanted: Array) -> tuple[Array, Array]:
    """Magnitudes of the wanted rows, at norm 1, on two random directions, `(wanted, 2)`; and their norms."""
    draw = np.random.default_rng(0).standard_normal((rows.shape[1], 2))
    draw /= np.linalg.norm(draw, axis=0)
    views, norms = np.empty((len(wanted), 2)), np.empty(len(wanted))
    step = max(1, ELEMENT_BLOCK // rows.shape[1])
    for start in range(0, len(wanted), step):
        wide = rows[wanted[start : start + step]].astype(np.float64)
        norms[start : start + step] = np.linalg.norm(wide, axis=1)
        views[start : start + step] = np.abs(wide @ draw)
    return views / norms[:, None], norms


def _distance(pair: Array, norms: Array) -> float:
    """Between two rows at norm 1, the sign of one turned if that brings them closer."""
    a, b = pair.astype(np.float64) / norms[:, None]
    return float(min(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def _connected(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers that pairs lead to from one another, together."""
    leader: dict[int, int] = {}

    def lead(number: int) -> int:
        while leader.setdefault(number, number) != number:
            number = leader[number]
        return number

    for one, other in pairs:
        leader[lead(one)] = lead(other)
    groups: dict[int, list[int]] = {}
    for number in leader:
        groups.setdefault(lead(number), []).append(number)
    return list(groups.values())
