"""`tucker2`: Tucker decomposition of both channel modes (Kim et al., 2016, arXiv:1511.06530).

`W[o, i, ...] ~ sum_pq U[o, p] G[p, q, ...] V[i, q]`: a 1x1 `(q, in, 1, ...)`, the core `(p, q, *kernel)`, a
1x1 `(out, p, 1, ...)`. It starts from the truncated HOSVD (De Lathauwer et al., 2000) and is improved by
higher-order orthogonal iteration, with one power step of each basis in turn.

The rank is the pair (p, q) of channels after and before the core, outputs first. It is at most
`(min(out, in * prod(kernel)), min(in, out * prod(kernel)))`; there the chain is exact.
The error is the relative error of the weight (Frobenius). Before a chain is computed it is that of the
truncated HOSVD, an upper bound, and at most sqrt(2) times the least possible error.
It raises as `Method` does: UnsupportedLayer for an empty weight or one with NaN or Inf.
MACs per output position at stride 1: `in * q + q * p * prod(kernel) + p * out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

import numpy as np
from scipy import linalg

from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.factorize.svd import two_factors_suffice
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import (
    leading_subspace,
    normalized,
    require_finite,
    single_blas_thread,
    singular_vectors,
)

RankPair = tuple[int, int]
HOOI_SWEEPS = 5  # more change the error by less than a thousandth on trained kernels


def outline(layer: Layer, rank: RankPair) -> list[Factor]:
    """Shapes of the factors for rank (p, q): `(q, in, 1, ...)`, `(p, q, *kernel)`, `(out, p, 1, ...)`."""
    out, into, *kernel = layer.weight.shape
    p, q = rank
    ones = (1,) * len(kernel)
    return [
        Factor(shape=(q, into, *ones)),
        Factor(shape=(p, q, *kernel), axes=tuple(range(len(kernel)))),
        Factor(shape=(out, p, *ones)),
    ]


def factors(layer: Layer, rank: RankPair) -> list[Array]:
    """Weights of the three factors, in the shapes of `outline`."""
    tensor, unit = normalized(three_way_tensor(layer))
    left, right = (leading_subspace(_unfolded(tensor, mode), r) for mode, r in enumerate(rank))
    left, right = (basis.astype(tensor.dtype, copy=False) for basis in (left, right))
    slices = np.ascontiguousarray(np.moveaxis(tensor, 2, 0))
    with single_blas_thread(max(tensor.shape)):
        for _ in range(HOOI_SWEEPS if rank != bound(layer) else 0):
            left = _power_step(slices @ right, left)
            right = _power_step(slices.transpose(0, 2, 1) @ left, right)
        core = np.moveaxis(left.T @ (slices @ right), 0, 2)
    shapes = [f.shape for f in outline(layer, rank)]
    return [w.reshape(shape) for w, shape in zip(_balanced((right.T, core, left), unit), shapes, strict=True)]


def _balanced(factors: Sequence[Array], unit: float) -> list[Array]:
    """The factors, multiplied by powers of two so that their largest entries are about equal.

    Their product becomes `unit` times as large, nothing is rounded, and none overflows half precision.
    """
    peaks = [float(np.abs(factor).max()) for factor in factors]
    even = (prod(peaks) * unit) ** (1 / len(peaks))
    if not even:
        return list(factors)
    first, *rest = (round(log2(even / peak)) for peak in peaks)
    core, *others = rest
    core = round(log2(unit)) - first - sum(others)
    return [np.ldexp(f, power) for f, power in zip(factors, (first, core, *others), strict=True)]


def _power_step(projected: Array, basis: Array) -> Array:
    """The basis `(n, r)` after one power step toward the leading left subspace of the slices `(taps, n, m)`.

    One step is enough, as the next sweep continues from it. A basis of the whole space is returned as it is.
    """
    if basis.shape[0] == basis.shape[1]:
        return basis
    moved = (projected @ (projected.transpose(0, 2, 1) @ basis)).sum(axis=0)
    return np.asarray(linalg.qr(moved, mode="economic", overwrite_a=True, check_finite=False)[0])


def bound(layer: Layer) -> tuple[int, int]:
    """Full ranks of the output and the input mode, (p, q)."""
    out, into = layer.out_channels, layer.in_channels
    return min(out, layer.weight.size // out), min(into, layer.weight.size // into)


def errors(layer: Layer, ranks: Sequence[RankPair]) -> list[float]:
    """Relative error (Frobenius) of the truncated HOSVD at each rank, an upper bound of the chain's error.

    The core in the full bases has the norm of the weight, so one core gives the error of every pair of ranks.
    """
    tensor, _ = normalized(three_way_tensor(layer))
    p, q = bound(layer)
    left, right = singular_vectors(_unfolded(tensor, 0), p), singular_vectors(_unfolded(tensor, 1), q)
    energy = np.square(_core(tensor, left, right)).sum(axis=2)
    kept = energy.cumsum(axis=0).cumsum(axis=1)
    total = kept[-1, -1] or 1.0
    return [float(np.sqrt(max(0.0, 1.0 - kept[a - 1, b - 1] / total))) for a, b in ranks]


def three_way_tensor(layer: Layer) -> Array:
    """The weight as an `(out, in, prod(kernel))` tensor. Raises UnsupportedLayer for NaN or Inf."""
    return require_finite(layer.weight).reshape(*layer.weight.shape[:2], -1)


def _unfolded(tensor: Array, mode: int) -> Array:
    """Mode-n unfolding: the tensor as a matrix with a row for each index of one mode."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def _core(tensor: Array, left: Array, right: Array) -> Array:
    """The core `(p, q, taps)` of a tensor in orthonormal bases `(out, p)` and `(in, q)`."""
    core: Array = np.einsum("oik,op,iq->pqk", tensor, left, right, optimize=True)
    return core


TUCKER2 = Method[RankPair](
    name="tucker2",
    summary="three layers; 1x1, k x k between reduced channels, 1x1",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
    distinct=lambda layer: not two_factors_suffice(layer),
)
