"""`spatial-svd`: truncated SVD with the kernel's first axis in one factor and its second in the other.

`W[o, i, y, x] ~ sum_r H[o, r, x] V[r, i, y]` (Jaderberg et al., 2014, arXiv:1405.3866): a kh x 1 convolution
`(r, in, kh, 1)`, then a 1 x kw `(out, r, 1, kw)`. The matrix is `(out * kw, in * kh)`.
With one kernel axis the first factor has it, as in `svd`; with none the chain is that of `svd`.

The rank r is the number of channels between the factors, at most the shorter side of the matrix; there the
chain is exact.
The error is the relative error of the weight (Frobenius), exactly the norm of the other singular values.
It raises as `Method` does: UnsupportedLayer for an empty weight or one with NaN or Inf.
MACs per output position at stride 1: `r * (in * kh + out * kw)`.

A kernel of three axes has one axis in one factor and two in the other. The pair is in the factor with more
channels (a k x 1 x 1, then a 1 x k x k, where `out >= in`): for equal singular values that chain has the
least error at a given cost, `r * (in * k + out * k * k)`. A third factor would need a second rank and a
middle layer of `r * r * k` weights, which costs what it saves unless r is far below the channels;
`cp-separable` is the form with a factor for every axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import tail_errors
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import singular_values, truncated

Axes = tuple[int, ...]


def unfolded(layer: Layer) -> Array:
    """The weight as an `(out * taps of the last factor, in * taps of the first factor)` matrix."""
    first, last = axis_split(layer)
    order = (0, *(2 + a for a in last), 1, *(2 + a for a in first))
    return layer.weight.transpose(order).reshape(_rows(layer), -1)


def axis_split(layer: Layer) -> tuple[Axes, Axes]:
    """The kernel axes of the first factor and those of the last."""
    axes = tuple(range(len(layer.kernel)))
    cut = 2 if len(axes) == 3 and layer.in_channels > layer.out_channels else 1
    return axes[:cut], axes[cut:]


def _rows(layer: Layer) -> int:
    """Rows of the matrix: outputs times the taps of the last factor."""
    return layer.out_channels * prod(layer.kernel[axis] for axis in axis_split(layer)[1])


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the two factors, `(rank, in, kh, 1)` and `(out, rank, 1, kw)` for two kernel axes."""
    first, last = axis_split(layer)
    begin = [k if axis in first else 1 for axis, k in enumerate(layer.kernel)]
    end = [k if axis in last else 1 for axis, k in enumerate(layer.kernel)]
    return [
        Factor(shape=(rank, layer.in_channels, *begin), axes=first),
        Factor(shape=(layer.out_channels, rank, *end), axes=last),
    ]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the two factors, in the shapes of `outline`."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    end = [layer.kernel[axis] for axis in axis_split(layer)[1]]
    gathered = left.reshape(layer.out_channels, *end, rank)
    return [right.reshape(first), np.moveaxis(gathered, -1, 1).reshape(last)]


def bound(layer: Layer) -> int:
    """Full rank: the shorter side of the matrix, min(out * kw, in * kh) for two kernel axes."""
    return min(_rows(layer), layer.weight.size // _rows(layer))


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error of the weight (Frobenius) at each rank, from the singular values."""
    return tail_errors(singular_values(unfolded(layer)), ranks)


SPATIAL_SVD = Method[int](
    name="spatial-svd",
    summary="two layers; k x 1 to r channels, then 1 x k",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
    distinct=lambda layer: sum(taps > 1 for taps in layer.kernel) > 1,
)
