"""Channels of a layer that are dead, hold NaN or Inf, or duplicate another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from modelsurgeon.inspection.statistics.spread import ELEMENT_BLOCK
from modelsurgeon.layers import Array, Layer

DEAD_RATIO = 1e-6  # of the layer's largest weight magnitude: a channel with none above it is dead
SAME_DISTANCE = 1e-6  # of channels scaled to norm 1: up to here they count as multiples of each other
SKETCH_SIZE = 32  # projections that stand for a row when its distance from others is estimated
MAX_LEADERS = 16  # that a row is compared with
SKETCH_DISTANCE = 2.5 * SAME_DISTANCE  # equal rows have estimates above this once in 10^15 cases

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
    """Groups of those wanted rows that are multiples of the first one found of their group, its leader.

    Rows of norm 1 that are equal up to sign have projections of equal magnitude on any direction. So rows are
    visited in the order of one projection, and each is compared with the leaders that are close there: first
    by its sketch, then as a whole. A row joins the first leader that it is a multiple of. Only the last
    `MAX_LEADERS` are looked at: where more are so close, rows differ by little more than rounding.
    """
    if rows.shape[1] < 2 or len(wanted) < 2:
        return []
    sketches, norms = _sketches(rows, wanted)
    keys = np.abs(sketches[:, 0])
    order = np.argsort(keys, kind="stable")
    near_next = np.diff(keys[order]) <= SAME_DISTANCE
    in_company = np.append(near_next, False) | np.append(False, near_next)
    members: dict[int, list[int]] = {}
    leaders = np.empty(len(order), np.intp)
    first = count = 0
    for number in order[in_company].tolist():
        while first < count and keys[number] - keys[leaders[first]] > SAME_DISTANCE:
            first += 1
        window = leaders[max(first, count - MAX_LEADERS) : count]
        alike = window[_sketch_distances(sketches[window], sketches[number]) <= SKETCH_DISTANCE]
        leader = next((one for one in alike.tolist() if _same(rows, wanted, norms, one, number)), None)
        if leader is None:
            leaders[count] = number
            count += 1
        members.setdefault(number if leader is None else leader, []).append(number)
    return [sorted(int(wanted[number]) for number in group) for group in members.values() if len(group) > 1]


def _sketches(rows: Array, wanted: Array) -> tuple[Array, Array]:
    """Projections of the wanted rows, at norm 1, on random directions; and their norms.

    The first direction has norm 1. The others together preserve distances, up to chance.
    """
    directions = np.random.default_rng(0).standard_normal((rows.shape[1], 1 + SKETCH_SIZE))
    directions[:, 0] /= np.linalg.norm(directions[:, 0])
    directions[:, 1:] /= SKETCH_SIZE**0.5
    sketches, norms = np.empty((len(wanted), 1 + SKETCH_SIZE)), np.empty(len(wanted))
    step = max(1, ELEMENT_BLOCK // rows.shape[1])
    for start in range(0, len(wanted), step):
        block = rows[wanted[start : start + step]].astype(np.float64)
        norms[start : start + step] = np.linalg.norm(block, axis=1)
        sketches[start : start + step] = block @ directions
    return sketches / norms[:, None], norms


def _sketch_distances(sketches: Array, sketch: Array) -> Array:
    """Estimated distances of rows at norm 1 from one of them, up to sign, from their sketches."""
    if len(sketches) == 0:
        return np.empty(0)
    same = np.linalg.norm(sketches[:, 1:] - sketch[1:], axis=1)
    opposite = np.linalg.norm(sketches[:, 1:] + sketch[1:], axis=1)
    return np.asarray(np.minimum(same, opposite))


def _same(rows: Array, wanted: Array, norms: Array, one: int, other: int) -> bool:
    """Whether two of the wanted rows are equal at norm 1, up to the sign of one."""
    a, b = (rows[wanted[number]].astype(np.float64) / norms[number] for number in (one, other))
    return bool(min(np.linalg.norm(a - b), np.linalg.norm(a + b)) <= SAME_DISTANCE)
