"""Sums over the training rows and the validation rows of a fit. The rows themselves are never kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from modelsurgeon.data.samples import VALIDATION_EVERY, is_validation
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import Index, channels_at, draw_positions, output_positions, patches_at
from modelsurgeon.linalg import single_blas_thread
from modelsurgeon.linalg.least_squares import RegressionSums
from modelsurgeon.surgery.site import InputPair

ROWS_PER_LAYER = 16384  # over all samples, or more if z has many columns:
ROWS_PER_COLUMN = 10  # at least so many for each column of z
MAX_BUFFERED_NUMBERS = 2**23  # entries of rows that wait for their products


def normal_equations(
    layer: Layer,
    fed: Iterable[InputPair],
    samples: int,
    *,
    mixers: Sequence[Array] = (),
    split_feeds: bool = False,
    seed: int = 0,
) -> tuple[list[RegressionSums], list[RegressionSums]]:
    """Sums over the training rows, one for each group of the layer, and the same over the validation rows.

    y: the layer's original outputs without bias, plus the original residual less the current one. z: the
    patch that the layer is fed now, `(columns,)`, multiplied by its group's mixer `(columns, z)` where there
    are mixers. samples: number of samples in all feeds. split_feeds: for few feeds, the last quarter of each
    gives the validation rows; else every fourth feed does. Without any, the training sums are both.
    """
    sides = _RowSums(layer, mixers), _RowSums(layer, mixers)
    rng = np.random.default_rng(seed)
    columns = mixers[0].shape[1] if mixers else layer.weight[0].size
    wanted = max(ROWS_PER_LAYER, ROWS_PER_COLUMN * columns)
    for number, (original, current, residual) in enumerate(fed):
        at = draw_positions(output_positions(layer, original), wanted, samples, rng)
        outputs = _outputs_without_bias(layer, patches_at(layer, original, at))
        if residual is not None and residual[0].shape == residual[1].shape == _output_shape(layer, original):
            outputs += _output_rows(layer, residual[0] - residual[1], at)
        patches = patches_at(layer, current, at)
        if split_feeds:
            held = len(original) // VALIDATION_EVERY * (len(patches) // max(1, len(original)))
        else:
            held = len(patches) * is_validation(number)
        end = len(patches) - held
        sides[0].add(outputs[:end], patches[:end])
        sides[1].add(outputs[end:], patches[end:])
    training, validation = (side.sums() for side in sides)
    return training, validation or training


def _outputs_without_bias(layer: Layer, patches: Array) -> Array:
    """Outputs `(n, out)` of the layer for patches `(n, groups * columns)`, without the bias, in float32."""
    rows = np.split(patches.astype(np.float32, copy=False), layer.groups, axis=1)
    weights = np.split(layer.weight.astype(np.float32, copy=False), layer.groups)
    return np.concatenate([r @ w.reshape(len(w), -1).T for r, w in zip(rows, weights, strict=True)], axis=1)


def _output_shape(layer: Layer, x: Array) -> tuple[int, ...]:
    """Shape of the layer's outputs for x, `(n, channels, *space)`."""
    return len(x), layer.out_channels, *layer.out_size(x.shape[2:])


def _output_rows(layer: Layer, y: Array, at: Index) -> Array:
    """Rows `(n * p, out)` of outputs `(n, out, *space)` at the positions `(p,)` where patches were drawn."""
    return channels_at(y, at) if layer.kernel else y


class _RowSums:
    """Sums over rows of outputs and patches, which are buffered until there are enough for a fast product."""

    def __init__(self, layer: Layer, mixers: Sequence[Array]) -> None:
        self._groups = layer.groups
        in_float32 = [mixer.astype(np.float32) for mixer in mixers]
        self._mixers: Sequence[Array | None] = in_float32 or [None] * layer.groups
        self._buffer: list[tuple[Array, Array]] = []
        self._sums: list[RegressionSums] = []

    def add(self, outputs: Array, patches: Array) -> None:
        """Add rows: outputs `(n, out)` wanted for patches `(n, groups * columns)`."""
        if len(patches):
            self._buffer.append((outputs, patches.astype(np.float32, copy=False)))
        if sum(part.size for _, part in self._buffer) > MAX_BUFFERED_NUMBERS:
            self._sum()

    def sums(self) -> list[RegressionSums]:
        """The sums over all rows, one for each group; none without rows."""
        if self._buffer:
            self._sum()
        return self._sums

    def _sum(self) -> None:
        """Add the buffered rows to the sums."""
        outputs, patches = (
            np.split(np.concatenate(part), self._groups, axis=1) for part in zip(*self._buffer, strict=True)
        )
        rows = zip(outputs, patches, self._mixers, strict=True)
        with single_blas_thread(patches[0].shape[1]):
            new = [RegressionSums.of(x if m is None else x @ m, y) for y, x, m in rows]
        self._sums = [a + b for a, b in zip(self._sums, new, strict=True)] if self._sums else new
        self._buffer = []
