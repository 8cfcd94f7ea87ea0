"""`svd`: the best approximation of the weight as one matrix.

A fully connected layer or 1x1 convolution becomes two of them, `in -> r -> out`. A k x k convolution becomes
a k x k convolution to r channels and a 1x1 to the outputs (channel decomposition, Zhang et al., 2015,
arXiv:1505.06798). A transposed convolution has its 1x1 first, where the map is still small.
Cost per output position: `r * (in * prod(kernel) + out)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.layer import Array, Layer
from modelsurgeon.linalg import singular_values, truncated


def unfolded(layer: Layer) -> Array:
    """The weight as the matrix that is cut: `(out, in * kernel)`; `(in, out * kernel)` where transposed."""
    weight = np.moveaxis(layer.weight, 1, 0) if layer.transposed else layer.weight
    return weight.reshape(len(weight), -1)


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    if layer.transposed:
        return [Factor(shape=(rank, into, *ones)), Factor(shape=(out, rank, *kernel), axes=axes)]
    return [Factor(shape=(rank, into, *kernel), axes=axes), Factor(shape=(out, rank, *ones))]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    if not layer.transposed:
        return [right.reshape(first), left.reshape(last)]
    scattered = right.reshape(rank, last[0], *layer.kernel)
    return [left.T.reshape(first), np.moveaxis(scattered, 0, 1)]


def bound(layer: Layer) -> int:
    """Full rank: the shorter side of the matrix."""
    rows = layer.in_channels if layer.transposed else layer.out_channels
    return min(rows, layer.weight.size // rows)


def tails(sigma: Array, ranks: Sequence[int]) -> list[float]:
    """Relative error left by the leading `r` singular values, for every r: the tail of the spectrum."""
    energy = np.concatenate([np.cumsum(np.square(sigma)[::-1])[::-1], [0.0]])
    total = energy[0] or 1.0
    return [float(np.sqrt(energy[r] / total)) for r in ranks]


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error at each rank, from the spectrum."""
    return tails(singular_values(unfolded(layer)), ranks)


def flat(layer: Layer) -> bool:
    """True where the kernel has one tap: the layer is a matrix, and so is every factorization of it."""
    return prod(layer.kernel) == 1


SVD = Method[int](
    name="svd",
    summary="two layers; k x k to r channels, then 1x1",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
)
