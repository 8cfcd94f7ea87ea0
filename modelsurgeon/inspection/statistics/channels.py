"""Channels of a layer that are dead, hold NaN or Inf, or duplicate another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from modelsurgeon.inspection.statistics.spread import ELEMENT_BLOCK
from modelsurgeon.layers import Array, Layer

DEAD_RATIO = 1e-6  # of the layer's largest weight magnitude: a channel with none above it is dead
SAME_DISTANCE = 1e-6  # of channels scaled to norm 1: up to here they count as multiples of each other

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ChannelFindings:
    """Dead, broken and duplicate channels of a layer, by index.

    dead: outputs whose weights are all 0, or all smaller than `DEAD_RATIO` of the layer's largest.
    dead_inputs: the same for inputs. broken: outputs with a NaN or Inf among their weights. duplicates:
    groups of outputs with equal weights. scaled: groups of outputs that are multiples of each other; each
    group of duplicates takes part with its first output. Only outputs with the same inputs are compared;
    biases are ignored.
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
        """The number of outputs that could be removed: all but one of each group of duplicates."""
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
    """Dead, broken, duplicate and scaled channels of a layer's weight."""
    peaks, inputs = _peaks(layer)
    finite = np.isfinite(peaks)
    threshold = DEAD_RATIO * float(peaks[finite].max(initial=0.0))
    dead = peaks <= threshold
    usable = finite & ~dead
    duplicates: list[tuple[int, ...]] = []
    scaled: list[tuple[int, ...]] = []
    for start, rows in _by_group(layer):
        alive = np.flatnonzero(usable[start : start + len(rows)])
        same = _equal_rows(rows, alive)
        first = np.array([group[0] for group in same], np.intp)
        duplicates += [_shifted(group, start) for group in same if len(group) > 1]
        scaled += [_shifted(group, start) for group in _proportional(rows, first)]
    return ChannelFindings(
        outputs=layer.out_channels,
        inputs=layer.in_channels,
        dead=_indices(dead),
        dead_inputs=_indices(inputs <= threshold),
        broken=_indices(~finite),
        duplicates=tuple(duplicates),
        scaled=tuple(scaled),
    )


def _indices(mask: Array) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _shifted(group: Iterable[int], start: int) -> tuple[int, ...]:
    return tuple(int(number) + start for number in group)


def _by_group(layer: Layer) -> Iterator[tuple[int, Array]]:
    """The index of each group's first output, with the group's weights as a matrix of one row per output."""
    size = layer.out_channels // layer.groups
    if layer.weight.size and size > 1:
        for start in range(0, layer.out_channels, size):
            yield start, layer.weight[start : start + size].reshape(size, -1)


def _row_blocks(rows: Array) -> Iterator[tuple[int, Array]]:
    step = max(1, ELEMENT_BLOCK // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def _peaks(layer: Layer) -> tuple[Array, Array]:
    """Largest magnitude of each output and of each input; NaN or Inf where an output has such a weight."""
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


def _equal_rows(rows: Array, wanted: Array) -> list[list[int]]:
    """The wanted rows, in groups of equal content."""
    groups: dict[bytes, list[int]] = {}
    for number in wanted.tolist():
        content = rows[number] + rows.dtype.type(0)  # -0.0 becomes 0.0
        groups.setdefault(blake2b(content.tobytes(), digest_size=16).digest(), []).append(number)
    return list(groups.values())


def _proportional(rows: Array, wanted: Array) -> list[list[int]]:
    """Groups of those wanted rows that are multiples of each other.

    Rows of norm 1 that are equal up to sign have projections of equal magnitude on any direction: only those
    that are close on two random directions are compared as a whole.
    """
    if rows.shape[1] < 2 or len(wanted) < 2:
        return []
    projections, norms = _projections(rows, wanted)
    order = np.argsort(projections[:, 0])
    sorted_projections = projections[order]
    found: list[tuple[int, int]] = []
    for step in range(1, len(order)):
        close = np.abs(sorted_projections[step:] - sorted_projections[:-step]) <= SAME_DISTANCE
        if not close[:, 0].any():
            break
        for index in np.flatnonzero(close.all(axis=1)).tolist():
            found.append((int(order[index]), int(order[index + step])))
    alike = [
        pair for pair in found if _distance(rows[wanted[list(pair)]], norms[list(pair)]) <= SAME_DISTANCE
    ]
    return [sorted(int(wanted[number]) for number in group) for group in _connected(alike)]


def _projections(rows: Array, wanted: Array) -> tuple[Array, Array]:
    """Magnitudes of projections of the wanted rows, at norm 1, on two random directions; and their norms."""
    directions = np.random.default_rng(0).standard_normal((rows.shape[1], 2))
    directions /= np.linalg.norm(directions, axis=0)
    projections, norms = np.empty((len(wanted), 2)), np.empty(len(wanted))
    step = max(1, ELEMENT_BLOCK // rows.shape[1])
    for start in range(0, len(wanted), step):
        block = rows[wanted[start : start + step]].astype(np.float64)
        norms[start : start + step] = np.linalg.norm(block, axis=1)
        projections[start : start + step] = np.abs(block @ directions)
    return projections / norms[:, None], norms


def _distance(pair: Array, norms: Array) -> float:
    """Distance between two rows at norm 1, up to the sign of one."""
    a, b = pair.astype(np.float64) / norms[:, None]
    return float(min(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def _connected(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected components of a graph with these edges, by union-find."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            number = parent[number]
        return number

    for one, other in pairs:
        parent[root(one)] = root(other)
    groups: dict[int, list[int]] = {}
    for number in parent:
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())
