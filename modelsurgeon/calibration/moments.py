"""Moments of layer inputs: counts, sums and sums of outer products. Activations are never kept.

Added moments of two batches are the moments of both together, so data may be split over batches and machines
in any way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from modelsurgeon.errors import BadData
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import channels_at, draw_positions, output_positions, patches_at
from modelsurgeon.linalg import single_blas_thread

ROWS_PER_LAYER = 16384  # over all samples: more rows say less than more samples would
ROWS_PER_CHANNEL = 8  # and at least so many for each of the layer's channels
TAP_ROWS = 4096  # for the moments of the taps, which are few numbers
MAX_INPUT_MAGNITUDE = 1e15  # the sums of squares of larger values overflow
MAX_BUFFERED_NUMBERS = 2**19  # entries of rows that wait for their products, which are faster for many rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Moments of rows with d columns. count: number of rows. total: their sum `(d,)`.

    product: the sum of their outer products `(d, d)`. All in float64. `a + b` are the moments of the rows of
    both.
    """

    count: int
    total: Array
    product: Array

    @classmethod
    def of(cls, rows: Array) -> Moments:
        """The moments of the rows of an `(n, d)` array."""
        wide = np.asarray(rows, np.float64)
        with single_blas_thread(wide.shape[1]):
            upper = blas.dsyrk(1.0, wide, trans=1) if wide.size else np.zeros((wide.shape[1],) * 2)
        product = upper + np.triu(upper, 1).T
        return cls(count=len(wide), total=wide.sum(axis=0), product=product)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of rows; exact."""
        return Moments(
            count=self.count + other.count,
            total=self.total + other.total,
            product=self.product + other.product,
        )

    @property
    def mean(self) -> Array:
        """Mean row `(d,)`; zero where there is no row."""
        mean: Array = self.total / max(1, self.count)
        return mean

    @property
    def second(self) -> Array:
        """Mean outer product `(d, d)`; zero where there is no row."""
        second: Array = self.product / max(1, self.count)
        return second

    @property
    def covariance(self) -> Array:
        """Covariance `(d, d)`, divided by the count."""
        covariance: Array = self.second - np.outer(self.mean, self.mean)
        return covariance


@dataclass(frozen=True, kw_only=True, eq=False)
class InputMoments:
    """Moments of a layer's inputs.

    channels: moments of its input channels, one for each group. response: they are of its outputs instead,
    which are fewer in a matrix with more inputs than outputs. taps: for each kernel axis, the sum of the
    outer products of the taps about their mean, `(k, k)`; none for a transposed convolution. patch: the mean
    patch `(groups, in / groups * prod(kernel))`. samples: number of samples.
    """

    channels: tuple[Moments, ...]
    taps: tuple[Array, ...]
    patch: Array
    response: bool
    samples: int


class MomentCollector:
    """Collects the moments of one layer's inputs, a feed at a time.

    samples: number of samples in all feeds. of_inputs: moments of the inputs, even where those of the outputs
    would do. Rows are buffered until there are enough for a fast product.
    """

    def __init__(self, layer: Layer, samples: int, *, of_inputs: bool = False, seed: int = 0) -> None:
        """A collector without any row."""
        self._layer, self._samples = layer, samples
        self._rng = np.random.default_rng(seed)
        self._response = is_measured_by_outputs(layer) and not of_inputs
        self._buffer: list[Array] = []
        self._channels: list[Moments] = []
        self._taps = [np.zeros((k, k)) for k in layer.kernel]
        self._patch_total = np.zeros(layer.weight[0].size * layer.groups)
        self._patch_count = 0

    def add(self, x: Array) -> None:
        """Add the inputs of one feed, `(n, channels, *space)`, at random positions."""
        layer = self._layer
        wanted = max(ROWS_PER_LAYER, ROWS_PER_CHANNEL * x.shape[1])
        at = draw_positions(int(np.prod(x.shape[2:], dtype=int)), wanted, self._samples, self._rng)
        rows = channels_at(x, at).astype(np.float32, copy=False)
        self._buffer.append(_outputs_without_bias(layer, rows) if self._response else rows)
        if sum(part.size for part in self._buffer) > MAX_BUFFERED_NUMBERS:
            self._sum()
        if not layer.transposed:
            at = draw_positions(output_positions(layer, x), TAP_ROWS, self._samples, self._rng)
            self._add_patches(patches_at(layer, x, at))

    def moments(self) -> InputMoments:
        """The moments of all inputs added so far."""
        self._sum()
        return InputMoments(
            channels=tuple(self._channels),
            taps=() if self._layer.transposed else tuple(self._taps),
            patch=(self._patch_total / max(1, self._patch_count)).reshape(self._layer.groups, -1),
            response=self._response,
            samples=self._samples,
        )

    def _sum(self) -> None:
        """Add the buffered rows to the moments of the channels."""
        if self._buffer:
            rows = np.concatenate(self._buffer)
            new = [Moments.of(part) for part in np.split(rows, self._layer.groups, axis=1)]
            old = self._channels
            self._channels = [a + b for a, b in zip(old, new, strict=True)] if old else new
            self._buffer = []

    def _add_patches(self, patches: Array) -> None:
        """Add patches `(n, channels * prod(kernel))` to the mean patch and the moments of the taps."""
        self._patch_total += patches.sum(axis=0, dtype=np.float64)
        self._patch_count += len(patches)
        shaped = patches.reshape(len(patches), self._layer.in_channels, *self._layer.kernel)
        for axis, taps in enumerate(self._taps):
            if len(taps) > 1:
                taps += _tap_products(shaped, 2 + axis)


def check_finite(layer: str, x: Array) -> None:
    """Raise BadData where a layer's inputs hold NaN or a magnitude beyond `MAX_INPUT_MAGNITUDE`."""
    if x.size and not all(
        abs(float(end)) <= MAX_INPUT_MAGNITUDE for end in (x.min(), x.max())
    ):  # of NaN, too
        raise BadData(
            f"layer {layer!r} is fed NaN, Inf or values beyond {MAX_INPUT_MAGNITUDE:g} on calibration "
            f"samples: leave those samples out, or the layer (--skip {layer})"
        )


def is_measured_by_outputs(layer: Layer) -> bool:
    """Whether the moments of the outputs are collected: of a matrix that has more inputs than outputs."""
    return not layer.transposed and layer.weight[0, 0].size == 1 and layer.in_channels > layer.out_channels


def _outputs_without_bias(layer: Layer, rows: Array) -> Array:
    """Outputs `(n, out)` of a pointwise layer for rows `(n, channels)`, without the bias."""
    parts = zip(np.split(rows, layer.groups, axis=1), np.split(layer.weight, layer.groups), strict=True)
    return np.concatenate([r @ w.reshape(len(w), -1).astype(np.float32).T for r, w in parts], axis=1)


def _tap_products(patches: Array, axis: int) -> Array:
    """Sum of the outer products `(k, k)` of the taps along one axis of patches, about each channel's mean.

    patches: `(n, channels, *kernel)`.
    """
    moved = np.moveaxis(patches, axis, -1).astype(np.float64)
    centred = (moved - moved.mean(axis=(0, *range(2, moved.ndim)), keepdims=True)).reshape(
        -1, moved.shape[-1]
    )
    product: Array = centred.T @ centred
    return product
