"""Rank-1 terms of a tensor: what their sum is worth, and the orthogonal ones that a search begins with.

`T[o, i, y, ...] ~ sum_r A[o, r] B[i, r] Y[y, r] ...`: one factor matrix `(size, r)` a mode, `Modes` in all.
In the principal basis of the small modes the slices along them are orthogonal, so their singular vectors are
orthogonal terms, the best of them in order, and the tail of all slices' singular values is the error of every
rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import NamedTuple

import numpy as np

from modelsurgeon.layers import Array
from modelsurgeon.linalg import singular_vectors, truncated, truncated_exact

Modes = tuple[Array, ...]
Cut = Callable[[Array, int], tuple[Array, Array]]


class OrthogonalTerms(NamedTuple):
    """The leading orthogonal terms of a tensor, strongest first, and the squared norms of all, least first.

    tensor: with entries of about 1, as its modes are; `scale` times it is the tensor that was given.
    """

    tensor: Array
    scale: float
    modes: Modes
    squares: Array

    def at(self, rank: int) -> Modes:
        """The `rank` strongest terms, balanced."""
        return balanced(tuple(mode[:, :rank] for mode in self.modes))

    def errors(self, ranks: Sequence[int]) -> Array:
        """Relative error of that many terms, for each of any ranks."""
        left = np.concatenate([[0.0], np.cumsum(self.squares)])
        places = np.maximum(len(self.squares) - np.asarray(ranks, int), 0)
        return np.asarray(np.sqrt(left[places] / (left[-1] or 1.0)))


def orthogonal_terms(tensor: Array, most: int) -> OrthogonalTerms:
    """The `most` strongest orthogonal terms of a tensor with at least three modes."""
    scale = float(np.abs(tensor).max(initial=0.0)) or 1.0
    tensor = (tensor / tensor.dtype.type(scale)).astype(tensor.dtype)
    modes, squares = _sliced(tensor, most, _bases(tensor), truncated_exact)
    modes = tuple(mode.astype(tensor.dtype, copy=False) for mode in modes)
    return OrthogonalTerms(tensor=tensor, scale=scale, modes=modes, squares=squares)


def exact(tensor: Array, rank: int) -> Modes:
    """The tensor in terms of the unit vectors of its small modes; `rank` is at least `enough`."""
    return _sliced(tensor, rank, [np.eye(n) for n in tensor.shape], truncated)[0]


def enough(shape: Sequence[int]) -> int:
    """A rank that is always exact: all modes but the largest multiplied."""
    return prod(shape) // max(1, *shape)


def expand(modes: Modes) -> Array:
    """The tensor that factor matrices stand for."""
    a, b, *axes = modes
    flat = np.stack([(a * row) @ b.T for row in joined(axes)], axis=2)
    return flat.reshape([len(mode) for mode in modes])


def joined(axes: Sequence[Array]) -> Array:
    """The taps' factors as one, `(taps, r)`: their columns multiplied out."""
    whole: Array = reduce(lambda one, two: (one[:, None] * two).reshape(-1, two.shape[1]), axes)
    return whole


def balanced(modes: Modes) -> Modes:
    """Every term's norm shared evenly between its columns, in the modes' own dtype."""
    norms = [np.linalg.norm(mode.astype(np.float64), axis=0) for mode in modes]
    even = np.prod([norm ** (1 / len(modes)) for norm in norms], axis=0)
    return tuple(
        (mode * (even / np.where(norm > 0, norm, 1.0))).astype(mode.dtype)
        for mode, norm in zip(modes, norms, strict=True)
    )


def norm_ratio(modes: Modes) -> float:
    """`sum ||term||^2 / ||sum of terms||^2`: 1 for orthogonal terms, large where terms cancel."""
    grams = [gram(mode) for mode in modes]
    whole = float(np.asarray(prod(grams)).sum())
    return float(norms(grams).sum()) / whole if whole > 0 else 0.0


def gram(mode: Array) -> Array:
    """Products of a mode's columns, `(r, r)` in float64."""
    return (mode.T @ mode).astype(np.float64)


def norms(grams: Sequence[Array]) -> Array:
    """Squared norm of every term, from the Gram matrices of all modes."""
    return np.asarray(prod([each.diagonal() for each in grams]))


def _sliced(tensor: Array, most: int, bases: Sequence[Array], cut: Cut) -> tuple[Modes, Array]:
    """Terms of the slices along the small modes in those bases, each slice cut on its own.

    The `most` strongest, strongest first, and the squared norms of all, smallest first.
    """
    slices, small = _slices(tensor, bases)
    pairs = [cut(s, min(s.shape)) for s in slices]
    left = np.concatenate([p[0] for p in pairs], axis=1)
    right = np.concatenate([p[1].T for p in pairs], axis=1)
    squares = _squared(left) * _squared(right)
    order = np.argsort(-squares, kind="stable")
    best = order[:most]
    index = np.repeat(np.arange(len(slices)), min(slices[0].shape))[best]
    columns = np.unravel_index(index, [tensor.shape[mode] for mode in small])
    found = {mode: bases[mode][:, column] for mode, column in zip(small, columns, strict=True)}
    large = iter((left[:, best], right[:, best]))
    modes = tuple(found[mode] if mode in found else next(large) for mode in range(tensor.ndim))
    return modes, squares[order[::-1]]


def _squared(columns: Array) -> Array:
    return np.asarray(np.einsum("nr,nr->r", columns, columns, dtype=np.float64))


def _small(tensor: Array) -> list[int]:
    """All modes but the two largest, in order."""
    return sorted(int(mode) for mode in np.argsort(tensor.shape, kind="stable")[:-2])


def _bases(tensor: Array) -> list[Array]:
    """The principal basis of each small mode; the large ones stay as they are."""
    small = _small(tensor)
    return [
        singular_vectors(np.moveaxis(tensor, mode, 0).reshape(n, -1), n) if mode in small else np.empty(0)
        for mode, n in enumerate(tensor.shape)
    ]


def _slices(tensor: Array, bases: Sequence[Array]) -> tuple[Array, list[int]]:
    """Matrices over the two large modes, one for each place of the small ones, and which those are."""
    small = _small(tensor)
    for mode in small:
        turned = np.tensordot(tensor, bases[mode], (mode, 0)).astype(tensor.dtype, copy=False)
        tensor = np.moveaxis(turned, -1, mode)
    first = np.moveaxis(tensor, small, range(len(small)))
    return first.reshape(-1, *first.shape[-2:]), small
