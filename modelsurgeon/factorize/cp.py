"""`cp`: a sum of rank-1 terms, the kernel's axes kept together as one mode (PARAFAC, Harshman, 1970).

`W[o, i, taps] ~ sum_r A[o, r] B[i, r] C[taps, r]`: a 1x1 to r channels, a depthwise k x k, a 1x1 to the
outputs. Of all schemes it has the least weight error at equal MACs on trained kernels. A kernel of one tap is
a matrix, and its CP is its `svd`.
Cost per output position at stride 1: `r * (in + prod(kernel) + out)`; the first 1x1 runs at input resolution.

Alternating least squares on the three-way tensor, from the SVDs of its slices, with a ridge that keeps terms
from growing against each other, and with columns balanced over the modes (Phan et al., 2020,
arXiv:2008.05441, on why such growth ruins a net).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from scipy import linalg

from modelsurgeon.factorize import svd
from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.layer import Array, Layer
from modelsurgeon.linalg import calm, finite, principal, truncated

SWEEPS = 30
ESTIMATE = 8  # sweeps where only the error is asked for; the rest betters it by a tenth at most
RIDGE = 1e-2  # of the mean diagonal of the normal equations
Modes = tuple[Array, Array, Array]


def outline(layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    if svd.flat(layer):
        return svd.outline(layer, rank)
    out, into, *kernel = layer.weight.shape
    ones = (1,) * len(kernel)
    return [
        Factor(shape=(rank, into, *ones)),
        Factor(shape=(rank, 1, *kernel), axes=tuple(range(len(kernel))), groups=rank),
        Factor(shape=(out, rank, *ones)),
    ]


def factors(layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    if svd.flat(layer):
        return svd.factors(layer, rank)
    a, b, c = decompose(_three_way(layer), rank)
    weights = (b.T, c.T, a)
    return [w.reshape(f.shape) for w, f in zip(weights, outline(layer, rank), strict=True)]


def bound(layer: Layer) -> int:
    """A rank that is always enough: the product of the two smaller modes."""
    if svd.flat(layer):
        return svd.bound(layer)
    return _enough(layer.weight.shape[0], layer.weight.shape[1], prod(layer.kernel))


def _enough(*shape: int) -> int:
    small, middle, _ = sorted(shape)
    return small * middle


def errors(layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error at each rank after a few sweeps, an upper estimate: every rank is a run of its own."""
    if svd.flat(layer):
        return svd.errors(layer, ranks)
    tensor = _three_way(layer)
    scale = np.linalg.norm(tensor) or 1.0
    return [float(np.linalg.norm(tensor - expand(decompose(tensor, r, ESTIMATE))) / scale) for r in ranks]


def decompose(tensor: Array, rank: int, sweeps: int = SWEEPS) -> Modes:
    """Factor matrices `(out, r)`, `(in, r)`, `(taps, r)` of an (out, in, taps) tensor."""
    if rank >= _enough(*tensor.shape):
        return _start(tensor, rank, truncated)
    modes = _balanced(_start(tensor, rank, principal), tensor.dtype)
    slices = np.ascontiguousarray(np.moveaxis(tensor, 2, 0))
    with calm(max(rank, *tensor.shape)):
        for _ in range(sweeps):
            modes = _balanced(_sweep(slices, modes), tensor.dtype)
    return modes


def expand(modes: Modes) -> Array:
    """The tensor that factor matrices stand for."""
    a, b, c = modes
    return np.stack([(a * row) @ b.T for row in c], axis=2)


def norm_ratio(modes: Modes) -> float:
    """`sum ||term||^2 / ||sum of terms||^2`: large where terms cancel, and then half precision breaks."""
    a, b, c = (np.square(m).sum(axis=0) for m in modes)
    return float((a * b * c).sum() / np.square(expand(modes)).sum())


def _sweep(slices: Array, modes: Modes) -> Modes:
    """One pass of least squares over all three modes; the contraction with B serves two of them.

    slices: the tensor as (taps, out, in), so that every tap is one matrix product.
    """
    _, b, c = modes
    through = slices @ b  # (taps, out, r)
    a = _solve((through * c[:, None]).sum(axis=0), b, c)
    c = _solve((through * a).sum(axis=1), a, b)
    back = slices.transpose(0, 2, 1) @ a  # (taps, in, r)
    return a, _solve((back * c[:, None]).sum(axis=0), a, c), c


def _solve(right: Array, one: Array, other: Array) -> Array:
    """Least squares of one mode, given the two others: `X (gram + ridge) = right`; solved in float64."""
    gram = ((one.T @ one) * (other.T @ other)).astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + np.finfo(float).tiny
    factor = linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    return np.asarray(linalg.cho_solve(factor, right.T, check_finite=False)).T.astype(right.dtype)


def _balanced(modes: Modes, dtype: np.dtype[Any]) -> Modes:
    """Every term's norm shared evenly between its three columns, in `dtype`."""
    norms = [np.linalg.norm(m.astype(np.float64), axis=0) for m in modes]
    even = np.cbrt(norms[0] * norms[1] * norms[2])
    scaled = (m * (even / np.where(n > 0, n, 1.0)) for m, n in zip(modes, norms, strict=True))
    a, b, c = (m.astype(dtype) for m in scaled)
    return a, b, c


def _start(tensor: Array, rank: int, cut: Callable[[Array, int], tuple[Array, Array]]) -> Modes:
    """The strongest terms of the slices along the smallest mode, each cut on its own; exact at full rank."""
    mode = int(np.argmin(tensor.shape))
    slices = np.moveaxis(tensor, mode, 0)
    pairs = [cut(s, min(s.shape)) for s in slices]
    left = np.concatenate([p[0] for p in pairs], axis=1)
    right = np.concatenate([p[1].T for p in pairs], axis=1)
    index = np.repeat(np.arange(len(slices)), min(slices.shape[1:]))
    strength = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    best = np.argsort(-strength, kind="stable")[:rank]
    modes = [left[:, best], right[:, best]]
    modes.insert(mode, np.eye(len(slices))[:, index[best]])
    return modes[0], modes[1], modes[2]


def _three_way(layer: Layer) -> Array:
    return finite(layer.weight).reshape(*layer.weight.shape[:2], -1)


CP = Method[int](
    name="cp",
    summary="three layers; 1x1, depthwise k x k, 1x1",
    outline=outline,
    factors=factors,
    bound=bound,
    errors=errors,
    one_pass=False,
)
