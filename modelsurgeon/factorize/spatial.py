"""`spatial-svd`: the kernel's first axis apart from its others (Jaderberg et al., 2014, arXiv:1405.3866).

`W[o, i, y, x] ~ sum_r H[o, r, x] V[r, i, y]`: a k x 1 convolution to r channels, then a 1 x k to the outputs.
A volume is cut the same way: the first axis, then the other two. With one kernel axis or none it is `svd`.
Cost per output position: `r * (in * k + out * k)` for a k x k kernel and stride 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import tails
from modelsurgeon.layer import Array, Layer
from modelsurgeon.linalg import singular_values, truncated


def unfolded(layer: Layer) -> Array:
    """The weight as an `(out * other axes, in * first axis)` matrix."""
    order = (0, *range(3, layer.weight.ndim), *range(1, layer.weight.ndim)[:2])
    return layer.weight.transpose(order).reshape(_rows(layer), -1)


def _rows(layer: Layer) -> int:
    return layer.out_channels * prod(layer.kernel[1:])


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    out, into, *kernel = layer.weight.shape
    first, rest = kernel[:1], kernel[1:]
    return [
        Factor(shape=(rank, into, *first, *(1 for _ in rest)), axes=(0,) if first else ()),
        Factor(shape=(out, rank, *(1 for _ in first), *rest), axes=tuple(range(1, len(kernel)))),
    ]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    gathered = left.reshape(layer.out_channels, *layer.kernel[1:], rank)
    return [right.reshape(first), np.moveaxis(gathered, -1, 1).reshape(last)]


def bound(layer: Layer) -> int:
    """Full rank: the shorter side of the matrix."""
    return min(_rows(layer), layer.weight.size // _rows(layer))


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error at each rank, from the spectrum."""
    return tails(singular_values(unfolded(layer)), ranks)


SPATIAL_SVD = Method[int](
    name="spatial-svd",
    summary="two layers; k x 1 to r channels, then 1 x k",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
    distinct=lambda layer: sum(taps > 1 for taps in layer.kernel) > 1,
)
