"""A tensor as a sum of rank-1 terms, by alternating least squares (PARAFAC, Harshman, 1970).

`T[o, i, y, ...] ~ sum_r A[o, r] B[i, r] Y[y, r] ...`: one factor matrix `(size, r)` a mode, `Modes` in all.
Such a sum may be fitted by huge terms that cancel, which half precision and refitting don't survive, so what
is minimised is `||T - sum of terms||^2 + RIDGE * sum of ||term||^2`: the Lagrangian of the least sum of norms
at a given error (Phan et al., 2020, arXiv:2008.05441). Terms that still cancel are corrected at equal error.

The start is good already: in the principal basis of the small modes the slices along them are orthogonal, so
their singular vectors are orthogonal terms, the best of them in order, and the tail of all slices' singular
values is the error of every rank. Sweeps are accelerated by momentum that begins anew where it stops paying
(Mitchell et al., 2020, arXiv:1810.05846).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import inf, prod
from typing import NamedTuple

import numpy as np
from scipy import linalg

from modelsurgeon.layer import Array
from modelsurgeon.linalg import calm, directions, principal, singular_values, truncated

SWEEPS = 24
RIDGE = 2e-2  # of every term's squared norm
SLOW = 5e-4  # a sweep that betters the objective by less is the last, or the momentum's end
CANCELLING = 2.0  # norm ratio from which on the terms are corrected
CORRECTIONS = 8
RESTARTS = 2  # from random factors, where they cost nothing to speak of
QUICK = 2**18  # elements times rank

Modes = tuple[Array, ...]
Solve = Callable[[Array, Array], Array]


class Fit(NamedTuple):
    """Factors, their squared error and their terms' squared norms in all, as shares of ||T||^2."""

    modes: Modes
    error: float
    norms: float

    @property
    def loss(self) -> float:
        """What the sweeps minimise."""
        return self.error + RIDGE * self.norms


def enough(shape: Sequence[int]) -> int:
    """A rank that is always exact: all modes but the largest multiplied."""
    return prod(shape) // max(1, *shape)


def decompose(
    tensor: Array, rank: int, *, sweeps: int = SWEEPS, restarts: int = RESTARTS, seed: int = 0
) -> Modes:
    """Balanced factors of a tensor with at least three modes, the first two being (out, in); see `expand`.

    restarts: from random factors besides, the best fit is kept; only where the tensor is small.
    """
    if rank >= enough(tensor.shape):
        return _terms(tensor, rank, [np.eye(n) for n in tensor.shape], truncated)
    scale = float(np.abs(tensor).max()) or 1.0
    tensor = (tensor / tensor.dtype.type(scale)).astype(tensor.dtype)
    with calm(max(rank, *tensor.shape)):
        best = _descend(tensor, _principal_terms(tensor, rank), sweeps)
        for start in _draws(tensor, rank, restarts, seed):
            best = min(best, _descend(tensor, start, sweeps), key=lambda fit: fit.loss)
        modes = (
            corrected(tensor, best.modes, CORRECTIONS) if norm_ratio(best.modes) > CANCELLING else best.modes
        )
    grown = scale ** (1 / len(modes))
    return tuple(mode * mode.dtype.type(grown) for mode in modes)


def expand(modes: Modes) -> Array:
    """The tensor that factor matrices stand for."""
    a, b, *axes = modes
    flat = np.stack([(a * row) @ b.T for row in _joined(axes)], axis=2)
    return flat.reshape([len(mode) for mode in modes])


def norm_ratio(modes: Modes) -> float:
    """`sum ||term||^2 / ||sum of terms||^2`: 1 for orthogonal terms, large where terms cancel."""
    grams = [_gram(mode) for mode in modes]
    whole = float(np.asarray(prod(grams)).sum())
    return float(_norms(grams).sum()) / whole if whole > 0 else 0.0


def tail(tensor: Array, ranks: Sequence[int]) -> Array:
    """Relative error of the start at each rank, an upper bound: one pass gives all of them."""
    slices, _ = _slices(tensor, _bases(tensor))
    squares = np.sort(np.concatenate([singular_values(s) for s in slices]).astype(np.float64) ** 2)
    left = np.concatenate([[0.0], np.cumsum(squares)])
    places = np.maximum(len(squares) - np.asarray(ranks, int), 0)
    return np.asarray(np.sqrt(left[places] / (left[-1] or 1.0)))


def corrected(tensor: Array, modes: Modes, ratio: float = CANCELLING) -> Modes:
    """Factors of no larger error whose terms cancel less, down to that norm ratio if `CORRECTIONS` sweeps do.

    Every mode in turn gets the least sum of its terms' norms that keeps the error.
    """
    if norm_ratio(modes) <= ratio:
        return modes
    energy, flat = _square(tensor), _flat(tensor)
    solve = partial(_least_norm, energy=energy, bound=_square(tensor - expand(modes)))
    for _ in range(CORRECTIONS):
        modes, error, norms = _sweep(flat, modes, solve, energy)
        if norms <= ratio * (1.0 - error):
            break
    return modes


def _descend(tensor: Array, start: Modes, sweeps: int) -> Fit:
    """Sweeps from a start, until one is `SLOW`."""
    energy, flat = _square(tensor) or 1.0, _flat(tensor)
    best, before, pace = Fit(start, inf, inf), start, 0
    for _ in range(sweeps):
        momentum = pace / (pace + 3)
        ahead = tuple(
            now + now.dtype.type(momentum) * (now - old) for now, old in zip(best.modes, before, strict=True)
        )
        fit = _sweep(flat, ahead, _ridged, energy)
        if fit.loss > (1.0 - 2 * SLOW) * best.loss:
            if pace == 0:
                return min(best, fit, key=lambda each: each.loss)
            pace = 0
            continue
        before, best, pace = best.modes, fit, pace + 1
    return best


def _ahead(before: Modes, now: Modes, momentum: float) -> Modes:
    pairs = zip(now, before, strict=True)
    return tuple(new + new.dtype.type(momentum) * (new - old) for new, old in pairs)


def _sweep(flat: Array, modes: Modes, solve: Solve, energy: float) -> Fit:
    """One pass over all modes; the product with B serves both the outputs and the taps.

    flat: the tensor as (taps, out, in), so that every tap is one matrix product.
    """
    _, b, *axes = modes
    grams = [_gram(mode) for mode in modes]
    taps = _joined(axes)
    through = flat @ b  # (taps, out, r)
    a = solve(_weighted(through, taps), _others(grams, 0))
    grams[0] = _gram(a)
    right = (through * a).sum(axis=1)
    for place in range(len(axes)):
        axes[place] = solve(_contracted(right, axes, place), _others(grams, place + 2))
        grams[place + 2] = _gram(axes[place])
    right = _weighted(flat.transpose(0, 2, 1) @ a, _joined(axes))
    gram = _others(grams, 1)
    b = solve(right, gram)
    grams[1] = _gram(b)
    error = energy - 2.0 * _inner(right, b) + float((gram * grams[1]).sum())
    return Fit(_balanced((a, b, *axes)), max(0.0, error) / energy, float(_norms(grams).sum()) / energy)


def _ridged(right: Array, gram: Array) -> Array:
    """One mode's least squares with the ridge on its terms' norms: `X (gram + RIDGE diag(gram)) = right`."""
    scale, unit = _unit(gram)
    unit[np.diag_indices_from(unit)] += RIDGE
    factor = linalg.cho_factor(unit, overwrite_a=True, check_finite=False)
    solved = linalg.cho_solve(factor, (right * scale).T, overwrite_b=True, check_finite=False)
    return np.ascontiguousarray((solved * scale[:, None]).T, dtype=right.dtype)


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
    return scale, gram * scale[:, None] * scale + np.diag((diagonal <= 0).astype(np.float64))


def _principal_terms(tensor: Array, rank: int) -> Modes:
    return _balanced(tuple(m.astype(tensor.dtype) for m in _terms(tensor, rank, _bases(tensor), principal)))


def _terms(
    tensor: Array, rank: int, bases: Sequence[Array], cut: Callable[[Array, int], tuple[Array, Array]]
) -> Modes:
    """The strongest terms of the slices along the small modes in those bases, each slice cut on its own."""
    slices, small = _slices(tensor, bases)
    pairs = [cut(s, min(s.shape)) for s in slices]
    left = np.concatenate([p[0] for p in pairs], axis=1)
    right = np.concatenate([p[1].T for p in pairs], axis=1)
    strength = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    best = np.argsort(-strength, kind="stable")[:rank]
    index = np.repeat(np.arange(len(slices)), min(slices[0].shape))[best]
    columns = np.unravel_index(index, [tensor.shape[mode] for mode in small])
    found = {mode: bases[mode][:, column] for mode, column in zip(small, columns, strict=True)}
    large = iter((left[:, best], right[:, best]))
    return tuple(found[mode] if mode in found else next(large) for mode in range(tensor.ndim))


def _small(tensor: Array) -> list[int]:
    """All modes but the two largest, in order."""
    return sorted(int(mode) for mode in np.argsort(tensor.shape, kind="stable")[:-2])


def _bases(tensor: Array) -> list[Array]:
    """The principal basis of each small mode; the large ones stay as they are."""
    small = _small(tensor)
    return [
        directions(np.moveaxis(tensor, mode, 0).reshape(n, -1), n) if mode in small else np.empty(0)
        for mode, n in enumerate(tensor.shape)
    ]


def _slices(tensor: Array, bases: Sequence[Array]) -> tuple[Array, list[int]]:
    """Matrices over the two large modes, one for each place of the small ones, and which those are."""
    small = _small(tensor)
    for mode in small:
        tensor = np.moveaxis(np.tensordot(tensor, bases[mode], (mode, 0)), -1, mode)
    first = np.moveaxis(tensor, small, range(len(small)))
    return first.reshape(-1, *first.shape[-2:]), small


def _draws(tensor: Array, rank: int, restarts: int, seed: int) -> list[Modes]:
    """Random starts, where the tensor is small enough for more than one."""
    draw = np.random.default_rng(seed)
    count = restarts if tensor.size * rank <= QUICK else 0
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


def _joined(axes: Sequence[Array]) -> Array:
    """The taps' factors as one, `(taps, r)`: their columns multiplied out."""
    joined: Array = reduce(lambda one, two: (one[:, None] * two).reshape(-1, two.shape[1]), axes)
    return joined


def _contracted(right: Array, axes: Sequence[Array], place: int) -> Array:
    """`(taps, r)` contracted with the factors of all kernel axes but one: `(taps of that axis, r)`."""
    stack = right.reshape(*(len(axis) for axis in axes), right.shape[1])
    for other in reversed(range(len(axes))):
        if other != place:
            stack = (np.moveaxis(stack, other, -2) * axes[other]).sum(axis=-2)
    return stack


def _gram(mode: Array) -> Array:
    return (mode.T @ mode).astype(np.float64)


def _others(grams: Sequence[Array], mode: int) -> Array:
    """The Gram matrix of all terms but for one mode: the others' multiplied elementwise."""
    left = [gram for place, gram in enumerate(grams) if place != mode]
    return np.asarray(prod(left))


def _norms(grams: Sequence[Array]) -> Array:
    """Squared norm of every term."""
    return np.asarray(prod([gram.diagonal() for gram in grams]))


def _inner(one: Array, two: Array) -> float:
    return float(np.einsum("nr,nr->", one, two, dtype=np.float64))


def _square(tensor: Array) -> float:
    return float(np.square(tensor, dtype=np.float64).sum())


def _balanced(modes: Modes) -> Modes:
    """Every term's norm shared evenly between its columns, in the modes' own dtype."""
    norms = [np.linalg.norm(mode.astype(np.float64), axis=0) for mode in modes]
    even = np.prod([norm ** (1 / len(modes)) for norm in norms], axis=0)
    return tuple(
        (mode * (even / np.where(norm > 0, norm, 1.0))).astype(mode.dtype)
        for mode, norm in zip(modes, norms, strict=True)
    )
