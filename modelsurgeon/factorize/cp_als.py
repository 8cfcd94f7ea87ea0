"""A tensor as a sum of rank-1 terms, by alternating least squares (PARAFAC, Harshman, 1970).

Such a sum may be fitted by huge terms that cancel, which half precision and refitting don't survive, so what
is minimised is `||T - sum of terms||^2 + RIDGE * sum of ||term||^2`: the Lagrangian of the least sum of norms
at a given error (Phan et al., 2020, arXiv:2008.05441). Terms that still cancel are corrected at equal error.

The start is good already, see `terms`. Sweeps are accelerated by momentum that begins anew where it stops
paying (Mitchell et al., 2020, arXiv:1810.05846).
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
    enough,
    expand,
    joined,
    norm_ratio,
)
from modelsurgeon.layers import Array
from modelsurgeon.linalg import single_blas_thread, squared_norm

MAX_SWEEPS = 24
RIDGE = 2e-2  # of every term's squared norm
MOMENTUM = 0.85
MIN_PROGRESS = 5e-4  # a sweep that betters the objective by less is the last, or the momentum's end
MAX_NORM_RATIO = 2.0  # norm ratio from which on the terms are corrected
MAX_CORRECTIONS = 8
FORECAST_SWEEPS = 4  # sweeps a look; two of them foresee the rest
FORECAST_FACTOR = 1.6  # times what the second look gains in the logarithm is gained by all that follow
MIN_NORM = 1e-14
RESTARTS = 2  # from random factors, where they cost nothing to speak of
RESTART_MAX_SIZE = 2**18  # elements times rank

Solve = Callable[[Array, Array], Array]


class Decomposition(NamedTuple):
    """Factors, their squared error and their terms' squared norms in all, as shares of ||T||^2."""

    modes: Modes
    error: float
    norms: float

    @property
    def loss(self) -> float:
        """What the sweeps minimise."""
        return self.error + RIDGE * self.norms


def decompose(
    tensor: Array, rank: int, *, sweeps: int = MAX_SWEEPS, restarts: int = RESTARTS, seed: int = 0
) -> Modes:
    """Balanced factors of a tensor with at least three modes, the first two being (out, in); see `expand`.

    restarts: from random factors besides, the best fit is kept; only where the tensor is small.
    """
    if rank >= enough(tensor.shape):
        return cp_tensor.exact(tensor, rank)
    with single_blas_thread(max(rank, *tensor.shape)):
        tensor, scale, *_ = start = cp_tensor.orthogonal_terms(tensor, rank)
        best = _descend(tensor, start.at(rank), sweeps)
        for drawn in _draws(tensor, rank, restarts, seed):
            best = min(best, _descend(tensor, drawn, sweeps), key=lambda fit: fit.loss)
        modes = (
            corrected(tensor, best.modes, MAX_CORRECTIONS)
            if norm_ratio(best.modes) > MAX_NORM_RATIO
            else best.modes
        )
    grown = scale ** (1 / len(modes))
    return tuple(mode * mode.dtype.type(grown) for mode in modes)


def forecast_error(start: OrthogonalTerms, rank: int) -> float:
    """Relative error that `decompose` comes to, about: from its first sweeps, as later ones go on in kind."""
    tensor, modes = start.tensor, start.at(rank)
    with single_blas_thread(max(rank, *tensor.shape)):
        if tensor.size * rank <= RESTART_MAX_SIZE:
            return float(_descend(tensor, modes, MAX_SWEEPS).error ** 0.5)
        early = _descend(tensor, modes, FORECAST_SWEEPS)
        later = _descend(tensor, early.modes, FORECAST_SWEEPS)
    before, now = (max(fit.error, MIN_NORM) for fit in (early, later))
    return float(min(now, now * (now / before) ** FORECAST_FACTOR) ** 0.5)


def corrected(tensor: Array, modes: Modes, ratio: float = MAX_NORM_RATIO) -> Modes:
    """Factors of no larger error whose terms cancel less: `MAX_CORRECTIONS` sweeps at most, down to `ratio`.

    Every mode in turn gets the least sum of its terms' norms that keeps the error.
    """
    if norm_ratio(modes) <= ratio:
        return modes
    energy, flat = squared_norm(tensor), _flat(tensor)
    solve = partial(_least_norm, energy=energy, bound=squared_norm(tensor - expand(modes)))
    for _ in range(MAX_CORRECTIONS):
        modes, error, norms = _sweep(flat, modes, solve, energy)
        if norms <= ratio * (1.0 - error):
            break
    return modes


def _descend(tensor: Array, start: Modes, sweeps: int) -> Decomposition:
    """Sweeps from a start, until one is `MIN_PROGRESS`."""
    energy, flat = squared_norm(tensor) or 1.0, _flat(tensor)
    best, before, pace = Decomposition(start, inf, inf), start, 0
    for _ in range(sweeps):
        momentum = MOMENTUM if pace else 0.0
        ahead = tuple(
            now + now.dtype.type(momentum) * (now - old) for now, old in zip(best.modes, before, strict=True)
        )
        fit = _sweep(flat, ahead, _solve_with_ridge, energy)
        if fit.loss > (1.0 - 2 * MIN_PROGRESS) * best.loss:
            if pace == 0:
                return min(best, fit, key=lambda each: each.loss)
            pace = 0
            continue
        before, best, pace = best.modes, fit, pace + 1
    return best


def _sweep(flat: Array, modes: Modes, solve: Solve, energy: float) -> Decomposition:
    """One pass over all modes; the product with B serves both the outputs and the taps.

    flat: the tensor as (taps, out, in), so that every tap is one matrix product.
    """
    _, b, *axes = modes
    grams = [cp_tensor.gram(mode) for mode in modes]
    through = flat @ b  # (taps, out, r)
    a = solve(_weighted(through, joined(axes)), _others(grams, 0))
    grams[0] = cp_tensor.gram(a)
    right = (through * a).sum(axis=1)
    for place in range(len(axes)):
        axes[place] = solve(_contracted(right, axes, place), _others(grams, place + 2))
        grams[place + 2] = cp_tensor.gram(axes[place])
    right = _weighted(flat.transpose(0, 2, 1) @ a, joined(axes))
    others = _others(grams, 1)
    b = solve(right, others)
    grams[1] = cp_tensor.gram(b)
    error = energy - 2.0 * _inner(right, b) + float((others * grams[1]).sum())
    return Decomposition(
        balanced((a, b, *axes)), max(0.0, error) / energy, float(cp_tensor.norms(grams).sum()) / energy
    )


def _solve_with_ridge(right: Array, gram: Array) -> Array:
    """One mode's least squares with the ridge on its terms' norms: `X (gram + RIDGE diag(gram)) = right`."""
    scale, unit = _unit(gram)
    unit[np.diag_indices_from(unit)] += RIDGE  # well enough conditioned for single precision
    factor = linalg.cho_factor(unit.astype(right.dtype), overwrite_a=True, check_finite=False)
    scale = scale.astype(right.dtype)
    solved = linalg.cho_solve(factor, (right * scale).T, overwrite_b=True, check_finite=False)
    return np.ascontiguousarray(solved.T) * scale


def _least_norm(right: Array, gram: Array, *, energy: float, bound: float) -> Array:
    """One mode with the least sum of terms' norms whose squared error is at most `bound`.

    The ridge is the multiplier of that bound: in the eigenbasis of the Gram matrix the error is a sum that
    grows with the ridge, which is found by bisection of its logarithm.
    """
    scale, unit = _unit(gram)
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


def _unit(gram: Array) -> tuple[Array, Array]:
    """`1 / sqrt(diag)` and the Gram matrix with a diagonal of ones; a term of no norm keeps to itself."""
    diagonal = gram.diagonal()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    unit = gram * scale[:, None] * scale
    np.fill_diagonal(unit, 1.0)
    return scale, unit


def _draws(tensor: Array, rank: int, restarts: int, seed: int) -> list[Modes]:
    """Random starts, where the tensor is small enough for more than one."""
    draw = np.random.default_rng(seed)
    count = restarts if tensor.size * rank <= RESTART_MAX_SIZE else 0
    size = [[draw.standard_normal((n, rank)) for n in tensor.shape] for _ in range(count)]
    return [tuple(mode.astype(tensor.dtype) for mode in modes) for modes in size]


def _flat(tensor: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(tensor.reshape(*tensor.shape[:2], -1), 2, 0))


def _weighted(stack: Array, taps: Array) -> Array:
    """`sum_t stack[t] * taps[t]`, a tap at a time: `(n, r)` from `(taps, n, r)`."""
    total: Array = stack[0] * taps[0]
    for each, row in zip(stack[1:], taps[1:], strict=True):
        total += each * row
    return total


def _contracted(right: Array, axes: Sequence[Array], place: int) -> Array:
    """`(taps, r)` contracted with the factors of all kernel axes but one: `(taps of that axis, r)`."""
    stack = right.reshape(*(len(axis) for axis in axes), right.shape[1])
    for other in reversed(range(len(axes))):
        if other != place:
            stack = (np.moveaxis(stack, other, -2) * axes[other]).sum(axis=-2)
    return stack


def _others(grams: Sequence[Array], mode: int) -> Array:
    """The Gram matrix of all terms but for one mode: the others' multiplied elementwise."""
    left = [gram for place, gram in enumerate(grams) if place != mode]
    return np.asarray(prod(left))


def _inner(one: Array, two: Array) -> float:
    return float(np.einsum("nr,nr->", one, two, dtype=np.float64))
