"""What calibration keeps of the data: counts, sums and products of sums. Activations are never kept.

The moments of two batches are those of both together when they are added, so data may be split over batches
and machines in any way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from modelsurgeon.errors import BadData
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import channels_at, draw_positions, output_places, patches_at
from modelsurgeon.linalg import single_blas_thread

MAX_ROWS = 16384  # of a layer, over all samples: more tell less than other samples would
ROWS_PER_CHANNEL = 8  # and at least so many for each of its channels
TAP_ROWS = 4096  # for the few moments of the taps
LARGEST_INPUT = 1e15  # the sums of squares of larger values overflow
MAX_HELD_NUMBERS = 2**19  # numbers that wait for their products, which are cheaper for many rows at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of rows with d columns: how many, their sum `(d,)` and the sum of their outer products `(d, d)`.

    All in float64. `a + b` are the moments of the rows of both.
    """

    count: int
    total: Array
    product: Array

    @classmethod
    def of(cls, rows: Array) -> Moments:
        """Moments of an (n, d) array."""
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
        """Mean outer product, `(d, d)`."""
        second: Array = self.product / max(1, self.count)
        return second

    @property
    def covariance(self) -> Array:
        """`(d, d)`, divided by the count."""
        covariance: Array = self.second - np.outer(self.mean, self.mean)
        return covariance


@dataclass(frozen=True, kw_only=True, eq=False)
class InputMoments:
    """What a layer is fed.

    channels: moments of its input channels, one for each group; where `response`, of its outputs, which are
    the smaller side of a matrix with more inputs than outputs. taps: for each kernel axis, the sum of the
    outer products of the taps about their mean, `(k, k)`. patch: the mean patch `(groups, in / groups *
    kernel)`. samples: how many they come from.
    """

    channels: tuple[Moments, ...]
    taps: tuple[Array, ...]
    patch: Array
    response: bool
    samples: int


class MomentCollector:
    """Collects what one layer is fed, a feed at a time.

    samples: how many feeds there will be. whole: keep the moments of all inputs, even where those of the
    outputs would do. Rows wait until there are enough of them for a quick product.
    """

    def __init__(self, layer: Layer, samples: int, *, whole: bool = False, seed: int = 0) -> None:
        """Nothing seen yet."""
        self._layer, self._samples = layer, samples
        self._rng = np.random.default_rng(seed)
        self._response = is_measured_by_outputs(layer) and not whole
        self._waiting: list[Array] = []
        self._channels: list[Moments] = []
        self._taps = [np.zeros((k, k)) for k in layer.kernel]
        self._patch = np.zeros(layer.weight[0].size * layer.groups)
        self._patches = 0

    def add(self, x: Array) -> None:
        """See one feed, `(n, channels, *space)`."""
        layer = self._layer
        wanted = max(MAX_ROWS, ROWS_PER_CHANNEL * x.shape[1])
        at = draw_positions(int(np.prod(x.shape[2:], dtype=int)), wanted, self._samples, self._rng)
        rows = channels_at(x, at).astype(np.float32, copy=False)
        self._waiting.append(_answers(layer, rows) if self._response else rows)
        if sum(part.size for part in self._waiting) > MAX_HELD_NUMBERS:
            self._sum()
        if not layer.transposed:
            at = draw_positions(output_places(layer, x), TAP_ROWS, self._samples, self._rng)
            self._see_patches(patches_at(layer, x, at))

    def done(self) -> InputMoments:
        """All that was seen."""
        self._sum()
        return InputMoments(
            channels=tuple(self._channels),
            taps=() if self._layer.transposed else tuple(self._taps),
            patch=(self._patch / max(1, self._patches)).reshape(self._layer.groups, -1),
            response=self._response,
            samples=self._samples,
        )

    def _sum(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting)
            new = [Moments.of(part) for part in np.split(rows, self._layer.groups, axis=1)]
            old = self._channels
            self._channels = [a + b for a, b in zip(old, new, strict=True)] if old else new
            self._waiting = []

    def _see_patches(self, patches: Array) -> None:
        self._patch += patches.sum(axis=0, dtype=np.float64)
        self._patches += len(patches)
        whole = patches.reshape(len(patches), self._layer.in_channels, *self._layer.kernel)
        for axis, taps in enumerate(self._taps):
            if len(taps) > 1:
                taps += _tap_products(whole, 2 + axis)


def check_finite(layer: str, x: Array) -> None:
    """Raises BadData where a layer is fed what no moment can hold."""
    if x.size and not all(abs(float(end)) <= LARGEST_INPUT for end in (x.min(), x.max())):  # of NaN, too
        raise BadData(
            f"layer {layer!r} is fed NaN, Inf or values beyond {LARGEST_INPUT:g} on calibration samples: "
            f"leave those samples out, or the layer (--skip {layer})"
        )


def is_measured_by_outputs(layer: Layer) -> bool:
    """Whether a layer is watched by its outputs: a matrix that has more inputs than outputs."""
    return not layer.transposed and layer.weight[0, 0].size == 1 and layer.in_channels > layer.out_channels


def _answers(layer: Layer, rows: Array) -> Array:
    """Outputs for rows `(n, channels)`, without the bias."""
    parts = zip(np.split(rows, layer.groups, axis=1), np.split(layer.weight, layer.groups), strict=True)
    return np.concatenate([r @ w.reshape(len(w), -1).astype(np.float32).T for r, w in parts], axis=1)


def _tap_products(patches: Array, axis: int) -> Array:
    """Outer products of the taps along one axis, about the mean of each channel."""
    moved = np.moveaxis(patches, axis, -1).astype(np.float64)
    centred = (moved - moved.mean(axis=(0, *range(2, moved.ndim)), keepdims=True)).reshape(
        -1, moved.shape[-1]
    )
    product: Array = centred.T @ centred
    return product
