"""`channels`: channel selection, a layer with the r input channels that change its outputs least.

The chain is a selection `(r, in, 1, ...)`, a 1x1 of ones and zeros, and the layer with fewer inputs
`(out, r, *kernel)`. It pays where the selection needs no layer of its own, because the other channels have no
other use and their producers are removed: the hidden channels of a 1x1 -> depthwise -> 1x1 block, or the
hidden units of a transformer's MLP.

The rank r is the number of input channels that are kept; at `in` the chain is exact.
The error is the relative error of the weight (Frobenius), exactly the norm of the removed channels' weights.
It raises as `Method` does: UnsupportedLayer for an empty weight or one with NaN or Inf.

Channels are removed one at a time by optimal brain surgeon (Hassibi and Stork, 1993) on the least-squares
problem of the outputs: with G the second moments of the input channels, P the inverse of G and B the weights,
removing channel j raises the squared error by `||B_j||^2 / P_jj`, and the best weights of the others are
`B - B_j P_j / P_jj`. Without data G is the identity: channels of least norm are removed, and the weights of
the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import input_unfolded
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import single_blas_thread
from modelsurgeon.linalg.arrays import normalized, require_finite

MAX_ELIMINATION_ROUNDS = 96  # of more channels than that, several are removed in each round


@dataclass(frozen=True, kw_only=True, eq=False)
class Elimination:
    """The order in which n channels are removed. order: `(n,)`, the last one removed first.

    lost: `(n + 1,)`, the squared error of the outputs with r channels left, at index r; an upper bound for
    the numbers inside a round that removes several.
    """

    order: Array
    lost: Array

    def kept(self, rank: int) -> Array:
        """Indices of the `rank` channels that are kept, `(rank,)`, ascending."""
        return np.sort(self.order[:rank])


def eliminate(weight: Array, gram: Array) -> Elimination:
    """Order the columns of an `(m, n)` matrix by optimal brain surgeon; the least important is removed first.

    gram: second moments `(n, n)` of the inputs that the columns are multiplied with, positive definite.
    """
    n = weight.shape[1]
    best, remaining = weight.astype(np.float64), np.arange(n)
    removed, lost = [remaining[:0]], [0.0]
    with single_blas_thread(n):
        inverse = linalg.inv(gram, check_finite=False)
        while len(remaining):
            scores = np.square(best).sum(axis=0) / np.diag(inverse)
            ranked = np.argsort(scores, kind="stable")
            drop, keep = (
                ranked[: -(-n // MAX_ELIMINATION_ROUNDS)],
                np.sort(ranked[-(-n // MAX_ELIMINATION_ROUNDS) :]),
            )
            cross = inverse[np.ix_(drop, keep)]
            repair = linalg.solve(
                inverse[np.ix_(drop, drop)], np.hstack([best[:, drop].T, cross]), check_finite=False
            )
            lost += [lost[-1] + float(np.sum(best[:, drop].T * repair[:, : len(best)]))] * len(drop)
            removed.append(remaining[drop])
            best = best[:, keep] - best[:, drop] @ repair[:, len(best) :]
            inverse = inverse[np.ix_(keep, keep)] - cross.T @ repair[:, len(best) :]
            remaining = remaining[keep]
    return Elimination(order=np.concatenate(removed)[::-1], lost=np.asarray(lost)[::-1])


def best_weights(weight: Array, gram: Array, kept: Array) -> Array:
    """The `(m, r)` weights of the kept columns with the least squared error of the outputs `(m,)`."""
    right = (weight.astype(np.float64) @ gram[:, kept]).T
    return linalg.solve(gram[np.ix_(kept, kept)], right, assume_a="pos", check_finite=False).T


def selection(into: int, kept: Array) -> Array:
    """The `(r, into)` matrix of ones and zeros that selects the kept channels of all `into`."""
    return np.eye(into)[kept]


def _outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain: `(rank, in, 1, ...)` and `(out, rank, *kernel)`."""
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    return [Factor(shape=(rank, into, *ones)), Factor(shape=(out, rank, *kernel), axes=axes)]


def _factors(layer: Layer, rank: int) -> list[Array]:
    kept = _channels_by_norm(layer)[:rank]
    first = selection(layer.in_channels, np.sort(kept))
    return [first.reshape(_outline(layer, rank)[0].shape), layer.weight[:, np.sort(kept)]]


def _channels_by_norm(layer: Layer) -> Array:
    """Indices of the input channels `(in,)`, by descending norm of their weights."""
    return np.argsort(-_channel_squared_norms(layer), kind="stable")


def _channel_squared_norms(layer: Layer) -> Array:
    """Squared norm of each input channel's weights, `(in,)`, up to one common factor."""
    scaled, _ = normalized(require_finite(input_unfolded(layer)))
    norms: Array = np.square(scaled, dtype=np.float64).sum(axis=1)
    return norms


def _errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error of the weight (Frobenius) at each rank: the norm of the removed channels."""
    left = np.concatenate([np.cumsum(np.sort(_channel_squared_norms(layer)))[::-1], [0.0]])
    return [float(np.sqrt(left[r] / (left[0] or 1.0))) for r in ranks]


CHANNELS = Method[int](
    name="channels",
    summary="fewer input channels; what computes the others is removed, too",
    outline=_outline,
    factors=_factors,
    bound=lambda layer: layer.in_channels,
    errors=_errors,
    alone=False,
)
