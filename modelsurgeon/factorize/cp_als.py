"""CP decomposition by alternating least squares (PARAFAC, Harshman, 1970).

The best sum may have huge terms that cancel, which half precision and refitting don't survive. So the
objective is `||T - sum of terms||^2 + RIDGE * sum of ||term||^2`: the Lagrangian of the least sum of norms at
a given error (Phan et al., 2020, arXiv:2008.05441). Terms that still cancel are corrected at equal error.

The start is the orthogonal terms of `cp_tensor`. Sweeps are accelerated by momentum that is restarted where
it no longer reduces the objective (Mitchell et al., 2020, arXiv:1810.05846).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf, prod
from typing import NamedTuple

import numpy as np
from scipy import linalg

from modelsurgeon.factorize import cp_tensor
from modelsurgeon.factorize.cp_tensor import (
    Modes,
    OrthogonalTerms,
    balanced,
    exact_rank,
    expand,
    khatri_rao,
    norm_ratio,
)
from modelsurgeon.layers import Array
from modelsurgeon.linalg import single_blas_thread, squared_norm

MAX_SWEEPS = 24
RIDGE = 2e-2  # of every term's squared norm
MOMENTUM = 0.85
MIN_PROGRESS = 5e-4  # share of the root of the objective: a smaller gain ends the sweeps or the momentum
MAX_NORM_RATIO = 2.0  # terms with a larger norm ratio are corrected
MAX_CORRECTIONS = 8  # sweeps
FORECAST_SWEEPS = 4  # in each of the two runs from which the final error is extrapolated
FORECAST_FACTOR = 1.6  # change of the log error after the second run, as a multiple of its change in that run
NEGLIGIBLE = 1e-30  # of the largest squared norm: a term that vanishes, whose scale would overflow
MIN_SQUARED_ERROR = 1e-14  # relative; the least that is extrapolated from
RANDOM_STARTS = 2  # for small tensors
MAX_RESTART_SIZE = 2**18  # elements times rank of a small tensor

Solve = Callable[[Array, Array], Array]


class Decomposition(NamedTuple):
    """Factors, their squared error and the sum of their terms' squared norms, both as shares of ||T||^2."""

    modes: Modes
    error: float
    norms: float

    @property
    def loss(self) -> float:
        """The objective that the sweeps minimize."""
        return self.error + RIDGE * self.norms


def decompose(
    tensor: Array, rank: int, *, sweeps: int = MAX_SWEEPS, restarts: int = RANDOM_STARTS, seed: int = 0
) -> Modes:
    """Balanced factors `(size, rank)`, one for each of at least three modes, the first two being (out, in).

    `expand` is the inverse. sweeps: at most. restarts: additional random starts for a small tensor; the best
    fit is returned. From the exact rank on the factors are exact and have no sweeps.
    """
    if rank >= exact_rank(tensor.shape):
        return cp_tensor.exact(tensor, rank)
    with single_blas_thread(max(rank, *tensor.shape)):
        tensor, scale, *_ = start = cp_tensor.orthogonal_terms(tensor, rank)
        best = _descend(tensor, start.at(rank), sweeps)
        for random_start in _random_starts(tensor, rank, restarts, seed):
            best = min(best, _descend(tensor, random_start, sweeps), key=lambda fit: fit.loss)
        modes = (
            corrected(tensor, best.modes, MAX_CORRECTIONS)
            if norm_ratio(best.modes) > MAX_NORM_RATIO
            else best.modes
        )
    grown = scale ** (1 / len(modes))
    return tuple(mode * mode.dtype.type(grown) for mode in modes)


def forecast_error(start: OrthogonalTerms, rank: int) -> float:
    """Estimate of the relative error (Frobenius) of `decompose`, extrapolated from its first sweeps."""
    tensor, modes = start.tensor, start.at(rank)
    with single_blas_thread(max(rank, *tensor.shape)):
        if tensor.size * rank <= MAX_RESTART_SIZE:
            return float(_descend(tensor, modes, MAX_SWEEPS).error ** 0.5)
        early = _descend(tensor, modes, FORECAST_SWEEPS)
        later = _descend(tensor, early.modes, FORECAST_SWEEPS)
    before, now = (max(fit.error, MIN_SQUARED_ERROR) for fit in (early, later))
    return float(min(now, now * (now / before) ** FORECAST_FACTOR) ** 0.5)


def corrected(tensor: Array, modes: Modes, ratio: float = MAX_NORM_RATIO) -> Modes:
    """Factors of no larger error whose terms cancel less, with a norm ratio down to `ratio`.

    Each mode in turn is replaced by the one with the least sum of squared term norms at the same error, in
    `MAX_CORRECTIONS` sweeps at most (error preserving correction, Phan et al., 2020).
    """
    if norm_ratio(modes) <= ratio:
        return modes
    energy, flat = squared_norm(tensor), _taps_first(tensor)
    solve = partial(_least_norm, energy=energy, bound=squared_norm(tensor - expand(modes)))
    for _ in range(MAX_CORRECTIONS):
        modes, error, norms = _sweep(flat, modes, solve, energy)
        if norms <= ratio * (1.0 - error):
            break
    return modes


def _descend(tensor: Array, start: Modes, sweeps: int) -> Decomposition:
    """Accelerated sweeps from a start, until one gains less than `MIN_PROGRESS` without momentum."""
    energy, flat = squared_norm(tensor) or 1.0, _taps_first(tensor)
    best, before, momentum_steps = Decomposition(start, inf, inf), start, 0
    for _ in range(sweeps):
        momentum = MOMENTUM if momentum_steps else 0.0
        ahead = tuple(
            now + now.dtype.type(momentum) * (now - old) for now, old in zip(best.modes, before, strict=True)
        )
        fit = _sweep(flat, ahead, _solve_with_ridge, energy)
        if fit.loss > (1.0 - 2 * MIN_PROGRESS) * best.loss:
            if momentum_steps == 0:
                return min(best, fit, key=lambda one: one.loss)
            momentum_steps = 0
            continue
        before, best, momentum_steps = best.modes, fit, momentum_steps + 1
    return best


def _sweep(flat: Array, modes: Modes, solve: Solve, energy: float) -> Decomposition:
    """One update of every mode; the product with B is used for both the outputs and the taps.

    flat: the tensor as `(taps, out, in)`, so that every tap is one matrix product.
    """
    _, b, *axes = modes
    grams = [cp_tensor.gram(mode) for mode in modes]
    through = flat @ b  # (taps, out, r)
    a = solve(_sum_over_taps(through, khatri_rao(axes)), _gram_without(grams, 0))
    grams[0] = cp_tensor.gram(a)
    right = (through * a).sum(axis=1)
    for place in range(len(axes)):
        axes[place] = solve(_contracted(right, axes, place), _gram_without(grams, place + 2))
        grams[place + 2] = cp_tensor.gram(axes[place])
    right = _sum_over_taps(flat.transpose(0, 2, 1) @ a, khatri_rao(axes))
    others = _gram_without(grams, 1)
    b = solve(right, others)
    grams[1] = cp_tensor.gram(b)
    error = energy - 2.0 * _inner_product(right, b) + float((others * grams[1]).sum())
    return Decomposition(
        balanced((a, b, *axes)),
        max(0.0, error) / energy,
        float(cp_tensor.term_squared_norms(grams).sum()) / energy,
    )


def _solve_with_ridge(right: Array, gram: Array) -> Array:
    """One mode by least squares with the ridge on its terms: X of `X (gram + RIDGE diag(gram)) = right`."""
    scale, unit = _with_unit_diagonal(gram)
    unit[np.diag_indices_from(unit)] += RIDGE  # well enough conditioned for single precision
    factor = linalg.cho_factor(unit.astype(right.dtype), overwrite_a=True, check_finite=False)
    scale = scale.astype(right.dtype)
    solved = linalg.cho_solve(factor, (right * scale).T, overwrite_b=True, check_finite=False)
    return np.ascontiguousarray(solved.T) * scale


def _least_norm(right: Array, gram: Array, *, energy: float, bound: float) -> Array:
    """One mode with the least sum of squared term norms whose squared error is at most `bound`.

    The ridge is the multiplier of that bound: in the eigenbasis of the Gram matrix the error is a sum that
    grows with the ridge, which is found by bisection of its logarithm.
    """
    scale, unit = _with_unit_diagonal(gram)
    values, vectors = linalg.eigh(unit, overwrite_a=True, check_finite=False)
    values = np.maximum(values, 0.0)
    turned = (right * scale) @ vectors
    strength = np.square(turned).sum(axis=0)
    low, high = np.log(1e-9), np.log(1e3)
    for _ in range(40):
        ridge = np.exp(middle := (low + high) / 2)
        error = energy - (strength * (values + 2 * ridge) / (values + ridge) ** 2).sum()
        low, high = (middle, high) if error <= bound else (low, middle)
    solved = turned / (values + np.exp(low)) @ vectors.T
    return np.ascontiguousarray(solved * scale, dtype=right.dtype)


def _with_unit_diagonal(gram: Array) -> tuple[Array, Array]:
    """`1 / sqrt(diag)` and the Gram matrix scaled to a diagonal of ones; vanishing terms aren't scaled."""
    diagonal = gram.diagonal()
    scale = 1.0 / np.sqrt(np.where(diagonal > NEGLIGIBLE * diagonal.max(), diagonal, 1.0))
    unit = gram * scale[:, None] * scale
    np.fill_diagonal(unit, 1.0)
    return scale, unit


def _random_starts(tensor: Array, rank: int, restarts: int, seed: int) -> list[Modes]:
    """Random factors of normal numbers, `restarts` times for a small tensor, else none."""
    rng = np.random.default_rng(seed)
    count = restarts if tensor.size * rank <= MAX_RESTART_SIZE else 0
    starts = [[rng.standard_normal((n, rank)) for n in tensor.shape] for _ in range(count)]
    return [tuple(mode.astype(tensor.dtype) for mode in modes) for modes in starts]


def _taps_first(tensor: Array) -> Array:
    """The tensor as `(taps, out, in)`, contiguous."""
    return np.ascontiguousarray(np.moveaxis(tensor.reshape(*tensor.shape[:2], -1), 2, 0))


def _sum_over_taps(stack: Array, taps: Array) -> Array:
    """`sum_t stack[t] * taps[t]`, `(n, r)`, from `(taps, n, r)` and `(taps, r)`."""
    total: Array = stack[0] * taps[0]
    for slab, row in zip(stack[1:], taps[1:], strict=True):
        total += slab * row
    return total


def _contracted(right: Array, axes: Sequence[Array], place: int) -> Array:
    """`(taps, r)` contracted with the factors of all kernel axes but one: `(taps of that axis, r)`."""
    stack = right.reshape(*(len(axis) for axis in axes), right.shape[1])
    for other in reversed(range(len(axes))):
        if other != place:
            stack = (np.moveaxis(stack, other, -2) * axes[other]).sum(axis=-2)
    return stack


def _gram_without(grams: Sequence[Array], mode: int) -> Array:
    """Elementwise product of the Gram matrices of all modes but one, `(r, r)`."""
    left = [gram for place, gram in enumerate(grams) if place != mode]
    return np.asarray(prod(left))


def _inner_product(one: Array, two: Array) -> float:
    return float(np.einsum("nr,nr->", one, two, dtype=np.float64))
