"""`svd` and `input-svd`: the best approximation of the weight as one matrix.

A fully connected layer or 1x1 convolution becomes two of them, `in -> r -> out`. A k x k kernel goes with one
side (channel decomposition, Zhang et al., 2015, arXiv:1505.06798):

`svd`: a k x k convolution to r channels, then a 1x1 to the outputs; the matrix is `(out, in * kernel)`.
Cost per output position: `r * (in * prod(kernel) + out)`.
`input-svd`: a 1x1 to r channels, then the k x k to the outputs; the matrix is `(in, out * kernel)`.
Cost: `r * in` per input position and `r * out * prod(kernel)` per output position.

The second is the better one where neighbouring inputs are alike, as behind a wide layer; trained nets have
layers of either kind, and no shape tells which (at half the MACs the error may be a third of the other's).
A transposed convolution multiplies its kernel where its map is still small: its costs are those of the
mirrored convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import singular_values, truncated


def unfolded(layer: Layer) -> Array:
    """The weight as an `(out, in * kernel)` matrix."""
    return layer.weight.reshape(layer.out_channels, -1)


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    return [Factor(shape=(rank, into, *kernel), axes=axes), Factor(shape=(out, rank, *ones))]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    return [right.reshape(first), left.reshape(last)]


def bound(layer: Layer) -> int:
    """Full rank: the shorter side of the matrix."""
    return int(min(unfolded(layer).shape))


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error at each rank, from the spectrum."""
    return tails(singular_values(unfolded(layer)), ranks)


def tails(sigma: Array, ranks: Sequence[int]) -> list[float]:
    """Relative error left by the leading `r` singular values, for every r: the tail of the spectrum."""
    energy = np.concatenate([np.cumsum(np.square(sigma)[::-1])[::-1], [0.0]])
    total = energy[0] or 1.0
    return [float(np.sqrt(energy[r] / total)) for r in ranks]


def simple(layer: Layer) -> bool:
    """True where more factors than two have nothing to share: one tap, or one channel from one."""
    return layer.is_pointwise or layer.weight.shape[:2] == (1, 1)


def input_unfolded(layer: Layer) -> Array:
    """The weight as an `(in, out * kernel)` matrix."""
    return np.moveaxis(layer.weight, 1, 0).reshape(layer.in_channels, -1)


def _input_outline(layer: Layer, rank: int) -> list[Factor]:
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    return [Factor(shape=(rank, into, *ones)), Factor(shape=(out, rank, *kernel), axes=axes)]


def _input_factors(layer: Layer, rank: int) -> list[Array]:
    left, right = truncated(input_unfolded(layer), rank)
    first, last = (f.shape for f in _input_outline(layer, rank))
    scattered = right.reshape(rank, last[0], *layer.kernel)
    return [left.T.reshape(first), np.moveaxis(scattered, 0, 1)]


def _input_bound(layer: Layer) -> int:
    return int(min(input_unfolded(layer).shape))


def _input_errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    return tails(singular_values(input_unfolded(layer)), ranks)


SVD = Method[int](
    name="svd",
    summary="two layers; k x k to r channels, then 1x1",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
)
INPUT_SVD = Method[int](
    name="input-svd",
    summary="two layers; 1x1 to r channels, then k x k",
    outline=_input_outline,
    factors=_input_factors,
    bound=_input_bound,
    errors=_input_errors,
    distinct=lambda layer: not simple(layer),
)
