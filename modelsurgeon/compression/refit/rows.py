"""Rows that a fit learns from, and those that judge it, as sums: never kept, however many they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from modelsurgeon.data.samples import is_validation
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import Index, channels_at, draw_positions, output_places, patches_at
from modelsurgeon.linalg import single_blas_thread
from modelsurgeon.linalg.least_squares import RegressionSums
from modelsurgeon.surgery.site import InputPair

MAX_ROWS = 16384  # over all samples
ROWS_PER_COLUMN = 8  # and at least so many for each column of z
MAX_HELD_NUMBERS = 2**23  # numbers that wait for their products


def normal_equations(
    layer: Layer, fed: Iterable[InputPair], samples: int, *, mixers: Sequence[Array] = (), seed: int = 0
) -> tuple[list[RegressionSums], list[RegressionSums]]:
    """For each group of the layer, sums over the feeds that are learnt from and over those that judge.

    y is what the layer gave, and what the sum that it goes into has lost on its other side since. z is the
    patch that it is fed now, `(columns,)`, or where there are mixers, `(columns, z)` for each group, what
    those make of it. samples: how many the feeds hold in all.
    """
    sides = _RowSums(layer, mixers), _RowSums(layer, mixers)
    rng = np.random.default_rng(seed)
    columns = mixers[0].shape[1] if mixers else layer.weight[0].size
    wanted = max(MAX_ROWS, ROWS_PER_COLUMN * columns)
    for number, (was, now, beside) in enumerate(fed):
        at = draw_positions(output_places(layer, was), wanted, samples, rng)
        answers = _answers(layer, patches_at(layer, was, at))
        if beside is not None and beside[0].shape == beside[1].shape == _shape(layer, was):
            answers += _output_rows(layer, beside[0] - beside[1], at)
        sides[int(is_validation(number))].add(answers, patches_at(layer, now, at))
    learnt, judged = (side.done() for side in sides)
    return learnt, judged or learnt


def _answers(layer: Layer, patches: Array) -> Array:
    """What the layer makes of its patches `(n, groups * columns)`, less its bias: `(n, out)`, in float32."""
    rows = np.split(patches.astype(np.float32, copy=False), layer.groups, axis=1)
    weights = np.split(layer.weight.astype(np.float32, copy=False), layer.groups)
    return np.concatenate([r @ w.reshape(len(w), -1).T for r, w in zip(rows, weights, strict=True)], axis=1)


def _shape(layer: Layer, x: Array) -> tuple[int, ...]:
    return len(x), layer.out_channels, *layer.out_size(x.shape[2:])


def _output_rows(layer: Layer, y: Array, at: Index) -> Array:
    """Rows of outputs, as patches are drawn."""
    return channels_at(y, at) if layer.kernel else y


class _RowSums:
    """Answers and patches on their way to sums; they wait until there are enough for a quick product."""

    def __init__(self, layer: Layer, mixers: Sequence[Array]) -> None:
        self._groups = layer.groups
        narrow = [mixer.astype(np.float32) for mixer in mixers]
        self._mixers: Sequence[Array | None] = narrow or [None] * layer.groups
        self._waiting: list[tuple[Array, Array]] = []
        self._sums: list[RegressionSums] = []

    def add(self, answers: Array, patches: Array) -> None:
        """Row for row, what is to come out and what goes in."""
        self._waiting.append((answers, patches.astype(np.float32, copy=False)))
        if sum(part.size for _, part in self._waiting) > MAX_HELD_NUMBERS:
            self._sum()

    def done(self) -> list[RegressionSums]:
        """Sums over all of them."""
        if self._waiting:
            self._sum()
        return self._sums

    def _sum(self) -> None:
        answers, patches = (
            np.split(np.concatenate(part), self._groups, axis=1) for part in zip(*self._waiting, strict=True)
        )
        rows = zip(answers, patches, self._mixers, strict=True)
        with single_blas_thread(patches[0].shape[1]):
            new = [RegressionSums.of(x if m is None else x @ m, y) for y, x, m in rows]
        self._sums = [a + b for a, b in zip(self._sums, new, strict=True)] if self._sums else new
        self._waiting = []
