"""`channels`: the input channels that a layer can best do without, and what the others make of it then.

The layer keeps r of its input channels with weights of their own. As a chain that is a selection, a 1x1 of
ones and zeros, and the narrower layer. It pays where the selection needs no layer, because whatever makes the
other channels for nobody else can go with them: the hidden channels of a 1x1 -> depthwise -> 1x1 block, or
the hidden units of a transformer's MLP.

Channels go by optimal brain surgeon (Hassibi and Stork, 1993) on the least-squares problem of the outputs,
a channel at a time: with G the second moments of the input channels, P its inverse and B the weights,
leaving out channel j raises the squared error by `||B_j||^2 / P_jj`, and the best weights of the others are
`B - B_j P_j / P_jj`. Without data G is the identity: the columns of least norm go, and nothing is repaired.
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
from modelsurgeon.linalg.arrays import normalised, require_finite

MAX_SWAP_ROUNDS = 96  # of elimination; where there are more channels than that, several go at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Elimination:
    """Which of n channels to leave out. order: `(n,)`, the last to go first. lost: squared error with r left.

    lost: `(n + 1,)`; where several went at a time, an upper bound for the numbers between.
    """

    order: Array
    lost: Array

    def kept(self, rank: int) -> Array:
        """The `rank` channels that stay, ascending."""
        return np.sort(self.order[:rank])


def eliminate(weight: Array, gram: Array) -> Elimination:
    """Leave out the columns of an `(m, n)` matrix, those first that change its outputs least.

    gram: second moments `(n, n)` of what the columns are multiplied with, positive definite.
    """
    n = weight.shape[1]
    best, here = weight.astype(np.float64), np.arange(n)
    gone, lost = [here[:0]], [0.0]
    with single_blas_thread(n):
        inverse = linalg.inv(gram, check_finite=False)
        while len(here):
            scores = np.square(best).sum(axis=0) / np.diag(inverse)
            ranked = np.argsort(scores, kind="stable")
            out, stay = ranked[: -(-n // MAX_SWAP_ROUNDS)], np.sort(ranked[-(-n // MAX_SWAP_ROUNDS) :])
            across = inverse[np.ix_(out, stay)]
            repair = linalg.solve(
                inverse[np.ix_(out, out)], np.hstack([best[:, out].T, across]), check_finite=False
            )
            lost += [lost[-1] + float(np.sum(best[:, out].T * repair[:, : len(best)]))] * len(out)
            gone.append(here[out])
            best = best[:, stay] - best[:, out] @ repair[:, len(best) :]
            inverse = inverse[np.ix_(stay, stay)] - across.T @ repair[:, len(best) :]
            here = here[stay]
    return Elimination(order=np.concatenate(gone)[::-1], lost=np.asarray(lost)[::-1])


def best_weights(weight: Array, gram: Array, kept: Array) -> Array:
    """The `(m, r)` weights of the kept columns with which the outputs are nearest to those of all."""
    right = (weight.astype(np.float64) @ gram[:, kept]).T
    return linalg.solve(gram[np.ix_(kept, kept)], right, assume_a="pos", check_finite=False).T


def selection(into: int, kept: Array) -> Array:
    """The `(r, into)` matrix of ones and zeros that takes the kept channels out of all."""
    return np.eye(into)[kept]


def _outline(layer: Layer, rank: int) -> list[Factor]:
    out, into, *kernel = layer.weight.shape
    ones, axes = (1,) * len(kernel), tuple(range(len(kernel)))
    return [Factor(shape=(rank, into, *ones)), Factor(shape=(out, rank, *kernel), axes=axes)]


def _factors(layer: Layer, rank: int) -> list[Array]:
    kept = _by_norm(layer)[:rank]
    first = selection(layer.in_channels, np.sort(kept))
    return [first.reshape(_outline(layer, rank)[0].shape), layer.weight[:, np.sort(kept)]]


def _by_norm(layer: Layer) -> Array:
    """Input channels, that of the largest weights first."""
    return np.argsort(-_norms(layer), kind="stable")


def _norms(layer: Layer) -> Array:
    """Squared norm of what each input channel is multiplied with, of the weight scaled to about 1."""
    scaled, _ = normalised(require_finite(input_unfolded(layer)))
    norms: Array = np.square(scaled, dtype=np.float64).sum(axis=1)
    return norms


def _errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    left = np.concatenate([np.cumsum(np.sort(_norms(layer)))[::-1], [0.0]])
    return [float(np.sqrt(left[r] / (left[0] or 1.0))) for r in ranks]


CHANNELS = Method[int](
    name="channels",
    summary="fewer input channels; what makes the others goes, too",
    outline=_outline,
    factors=_factors,
    bound=lambda layer: layer.in_channels,
    errors=_errors,
    alone=False,
)
