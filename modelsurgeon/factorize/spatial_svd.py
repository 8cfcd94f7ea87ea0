"""`spatial-svd`: the kernel's axes apart, one with the inputs and one with the outputs.

`W[o, i, y, x] ~ sum_r H[o, r, x] V[r, i, y]`: a k x 1 convolution to r channels, then a 1 x k to the outputs
(Jaderberg et al., 2014, arXiv:1405.3866). With one kernel axis or none it is `input-svd`.
Cost per output position: `r * (in * k + out * k)` for a k x k kernel and stride 1.

A volume's kernel has three axes for two factors: the first axis on one side, the other two on the other. The
pair goes with the side that has more channels (a k x 1 x 1, then a 1 x k x k, where `out >= in`): on a flat
spectrum that chain has the least error at a given cost, `r * (in * k + out * k * k)`. A third factor would
need a second rank, and a middle layer of `r * r * k` that takes what it saves unless r is far below the
channels; `cp-separable` is the form with a factor for every axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import tails
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import singular_values, truncated

Axes = tuple[int, ...]


def unfolded(layer: Layer) -> Array:
    """The weight as an `(out * last axes, in * first axes)` matrix."""
    first, last = sides(layer)
    order = (0, *(2 + a for a in last), 1, *(2 + a for a in first))
    return layer.weight.transpose(order).reshape(_rows(layer), -1)


def sides(layer: Layer) -> tuple[Axes, Axes]:
    """The kernel axes that go with the inputs, and those that go with the outputs."""
    axes = tuple(range(len(layer.kernel)))
    cut = 2 if len(axes) == 3 and layer.in_channels > layer.out_channels else 1
    return axes[:cut], axes[cut:]


def _rows(layer: Layer) -> int:
    return layer.out_channels * prod(layer.kernel[axis] for axis in sides(layer)[1])


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    first, last = sides(layer)
    begin = [k if axis in first else 1 for axis, k in enumerate(layer.kernel)]
    end = [k if axis in last else 1 for axis, k in enumerate(layer.kernel)]
    return [
        Factor(shape=(rank, layer.in_channels, *begin), axes=first),
        Factor(shape=(layer.out_channels, rank, *end), axes=last),
    ]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    end = [layer.kernel[axis] for axis in sides(layer)[1]]
    gathered = left.reshape(layer.out_channels, *end, rank)
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
