"""`tucker2`: both channel modes reduced around a small core (Kim et al., 2016, arXiv:1511.06530).

`W[o, i, ...] ~ sum_pq U[o, p] G[p, q, ...] V[i, q]`: a 1x1 from `in` to q channels, the kernel from q to p, a
1x1 from p to `out`. Started from the truncated HOSVD on the Gram matrix of each mode, then improved by
higher-order orthogonal iteration (De Lathauwer et al., 2000), a power step of either basis in turn.
Cost per output position at stride 1: `in * q + q * p * prod(kernel) + p * out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

import numpy as np
from scipy import linalg

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import simple
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import (
    leading_subspace,
    normalised,
    require_finite,
    single_blas_thread,
    singular_vectors,
)

Pair = tuple[int, int]
HOOI_SWEEPS = 5  # more change the error by less than a thousandth on trained kernels


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
    tensor, unit = normalised(three_way(layer))
    left, right = (leading_subspace(_unfolded(tensor, mode), r) for mode, r in enumerate(rank))
    left, right = (basis.astype(tensor.dtype, copy=False) for basis in (left, right))
    slices = np.ascontiguousarray(np.moveaxis(tensor, 2, 0))
    with single_blas_thread(max(tensor.shape)):
        for _ in range(HOOI_SWEEPS if rank != bound(layer) else 0):
            left = _turned(slices @ right, left)
            right = _turned(slices.transpose(0, 2, 1) @ left, right)
        core = np.moveaxis(left.T @ (slices @ right), 0, 2)
    shapes = [f.shape for f in outline(layer, rank)]
    return [w.reshape(shape) for w, shape in zip(_even((right.T, core, left), unit), shapes, strict=True)]


def _even(factors: Sequence[Array], unit: float) -> list[Array]:
    """The factors of `unit` times their product, with largest entries alike: none outgrows half precision.

    They are multiplied by powers of two, which rounds nothing.
    """
    peaks = [float(np.abs(factor).max()) for factor in factors]
    even = (prod(peaks) * unit) ** (1 / len(peaks))
    if not even:
        return list(factors)
    first, *rest = (round(log2(even / peak)) for peak in peaks)
    core, *others = rest
    core = round(log2(unit)) - first - sum(others)
    return [np.ldexp(f, power) for f, power in zip(factors, (first, core, *others), strict=True)]


def _turned(projected: Array, basis: Array) -> Array:
    """The basis a power step nearer to the leading left directions of slices `(taps, n, m)` side by side.

    One is enough: the next sweep goes on from where it ends. A basis of the whole space has nowhere to go.
    """
    if basis.shape[0] == basis.shape[1]:
        return basis
    moved = (projected @ (projected.transpose(0, 2, 1) @ basis)).sum(axis=0)
    return np.asarray(linalg.qr(moved, mode="economic", overwrite_a=True, check_finite=False)[0])


def bound(layer: Layer) -> tuple[int, int]:
    """Full ranks of the output and the input mode."""
    out, into = layer.out_channels, layer.in_channels
    return min(out, layer.weight.size // out), min(into, layer.weight.size // into)


def errors(layer: Layer, ranks: Sequence[Pair]) -> list[float]:
    """Relative error of the truncated HOSVD at each rank; the iteration ends at or below it.

    The core in the full bases holds all energy, so one pass gives the error of every pair of ranks.
    """
    tensor, _ = normalised(three_way(layer))
    p, q = bound(layer)
    left, right = singular_vectors(_unfolded(tensor, 0), p), singular_vectors(_unfolded(tensor, 1), q)
    energy = np.square(_core(tensor, left, right)).sum(axis=2)
    kept = energy.cumsum(axis=0).cumsum(axis=1)
    total = kept[-1, -1] or 1.0
    return [float(np.sqrt(max(0.0, 1.0 - kept[a - 1, b - 1] / total))) for a, b in ranks]


def three_way(layer: Layer) -> Array:
    """The weight as an (out, in, taps) tensor."""
    return require_finite(layer.weight).reshape(*layer.weight.shape[:2], -1)


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
    distinct=lambda layer: not simple(layer),
)
