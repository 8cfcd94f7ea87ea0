"""`tucker2`: both channel modes reduced around a small core (Kim et al., 2016, arXiv:1511.06530).

`W[o, i, ...] ~ sum_pq U[o, p] G[p, q, ...] V[i, q]`: a 1x1 from `in` to q channels, the kernel from q to p, a
1x1 from p to `out`. Started from the truncated HOSVD, then improved by higher-order orthogonal iteration
(De Lathauwer et al., 2000), every step on the Gram matrix of one mode.
Cost per output position at stride 1: `in * q + q * p * prod(kernel) + p * out`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import flat
from modelsurgeon.layer import Array, Layer
from modelsurgeon.linalg import directions, finite, leading

Pair = tuple[int, int]
SWEEPS = 3  # more change the error by less than a thousandth on trained kernels


def outline(layer: Layer, rank: Pair) -> list[Factor]:
    """Shapes of the chain."""
    out, into, *kernel = layer.weight.shape
    p, q = rank
    ones = (1,) * len(kernel)
    return [
        Factor(shape=(q, into, *ones)),
        Factor(shape=(p, q, *kernel), axes=tuple(range(len(kernel)))),
        Factor(shape=(out, p, *ones)),
    ]


def factors(layer: Layer, rank: Pair) -> list[Array]:
    """Weights of the chain."""
    tensor = _three_way(layer)
    p, q = rank
    left, right = _basis(tensor, 0, p), _basis(tensor, 1, q)
    for _ in range(SWEEPS if (p, q) != bound(layer) else 0):
        left = _basis(np.einsum("oik,iq->oqk", tensor, right, optimize=True), 0, p)
        right = _basis(np.einsum("oik,op->pik", tensor, left, optimize=True), 1, q)
    shapes = [f.shape for f in outline(layer, rank)]
    weights = (right.T, _core(tensor, left, right), left)
    return [w.reshape(shape) for w, shape in zip(weights, shapes, strict=True)]


def bound(layer: Layer) -> tuple[int, int]:
    """Full ranks of the output and the input mode."""
    out, into = layer.out_channels, layer.in_channels
    return min(out, layer.weight.size // out), min(into, layer.weight.size // into)


def errors(layer: Layer, ranks: Sequence[Pair]) -> list[float]:
    """Relative error of the truncated HOSVD at each rank; the iteration ends at or below it.

    The core in the full bases holds all energy, so one pass gives the error of every pair of ranks.
    """
    tensor = _three_way(layer)
    p, q = bound(layer)
    left, right = directions(_unfolded(tensor, 0), p), directions(_unfolded(tensor, 1), q)
    energy = np.square(_core(tensor, left, right)).sum(axis=2)
    kept = energy.cumsum(axis=0).cumsum(axis=1)
    total = kept[-1, -1] or 1.0
    return [float(np.sqrt(max(0.0, 1.0 - kept[a - 1, b - 1] / total))) for a, b in ranks]


def _three_way(layer: Layer) -> Array:
    """The weight as an (out, in, taps) tensor in float64."""
    return finite(layer.weight).reshape(*layer.weight.shape[:2], -1)


def _basis(tensor: Array, mode: int, rank: int) -> Array:
    """Leading left singular vectors of one unfolding."""
    return leading(_unfolded(tensor, mode), rank)


def _unfolded(tensor: Array, mode: int) -> Array:
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def _core(tensor: Array, left: Array, right: Array) -> Array:
    core: Array = np.einsum("oik,op,iq->pqk", tensor, left, right, optimize=True)
    return core


TUCKER2 = Method[Pair](
    name="tucker2",
    summary="three layers; 1x1, k x k between reduced channels, 1x1",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
    distinct=lambda layer: not flat(layer),
)
