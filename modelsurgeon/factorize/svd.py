"""`svd` and `input-svd`: truncated SVD of the weight as one matrix, its best approximation of rank r.

A fully connected layer or 1x1 convolution becomes two of them, `in -> r -> out`. A k x k kernel stays in one
of the two factors (channel decomposition, Zhang et al., 2015, arXiv:1505.06798):

- `svd`: a k x k convolution `(r, in, *kernel)`, then a 1x1 `(out, r, 1, ...)`. The matrix is
  `(out, in * prod(kernel))`. MACs per output position: `r * (in * prod(kernel) + out)`.
- `input-svd`: a 1x1 `(r, in, 1, ...)`, then a k x k convolution `(out, r, *kernel)`. The matrix is
  `(in, out * prod(kernel))`. MACs: `r * in` per input position, `r * out * prod(kernel)` per output position.

The rank r is the number of channels between the factors, at most the shorter side of the matrix; there the
chain is exact.
The error is the relative error of the weight (Frobenius), exactly the norm of the other singular values
(Eckart and Young, 1936).
Both raise as `Method` does: UnsupportedLayer for an empty weight or one with NaN or Inf.

`input-svd` has the smaller error where input channels are correlated, as after a wide layer. Trained nets
have layers of either kind, and the shape doesn't show which (at half the MACs the error may be a third of the
other's). A transposed convolution multiplies its kernel at input resolution: its costs are those of the
mirrored convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import singular_values, truncated


def unfolded(layer: Layer) -> Array:
    """The weight as an `(out, in * prod(kernel))` matrix."""
    return layer.weight.reshape(layer.out_channels, -1)


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the two factors of `svd`: `(rank, in, *kernel)` and `(out, rank, 1, ...)`."""
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    return [Factor(shape=(rank, into, *kernel), axes=axes), Factor(shape=(out, rank, *ones))]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the two factors of `svd`, in the shapes of `outline`."""
    left, right = truncated(unfolded(layer), rank)
    first, last = (f.shape for f in outline(layer, rank))
    return [right.reshape(first), left.reshape(last)]


def bound(layer: Layer) -> int:
    """Full rank of `svd`: min(out, in * prod(kernel))."""
    return int(min(unfolded(layer).shape))


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error of the weight (Frobenius) at each rank, from the singular values."""
    return tail_errors(singular_values(unfolded(layer)), ranks)


def tail_errors(sigma: Array, ranks: Sequence[int]) -> list[float]:
    """Relative error of the truncated SVD at each rank: the norm of the remaining singular values.

    sigma: all singular values, descending.
    """
    energy = np.concatenate([np.cumsum(np.square(sigma)[::-1])[::-1], [0.0]])
    total = energy[0] or 1.0
    return [float(np.sqrt(energy[r] / total)) for r in ranks]


def two_factors_suffice(layer: Layer) -> bool:
    """Whether two factors are enough, as a third would have size 1: one tap, or one input and one output."""
    return layer.is_pointwise or layer.weight.shape[:2] == (1, 1)


def input_unfolded(layer: Layer) -> Array:
    """The weight as an `(in, out * prod(kernel))` matrix."""
    return np.moveaxis(layer.weight, 1, 0).reshape(layer.in_channels, -1)


def _input_outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the two factors of `input-svd`: `(rank, in, 1, ...)` and `(out, rank, *kernel)`."""
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
    return tail_errors(singular_values(input_unfolded(layer)), ranks)


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
    distinct=lambda layer: not two_factors_suffice(layer),
)
