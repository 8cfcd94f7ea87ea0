"""CP tensors: sums of rank-1 terms, their norms, and the orthogonal terms that `cp_als` starts from.

`T[o, i, y, ...] ~ sum_r A[o, r] B[i, r] Y[y, r] ...`: one factor matrix `(size, r)` for each mode, together
`Modes`. In the principal basis of the small modes the slices along them are orthogonal. So the singular
vectors of all slices are orthogonal terms, ordered by singular value, and the error at each rank is the norm
of the remaining singular values.
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
    """The leading orthogonal terms of a tensor by descending norm, and the squared norms of all, ascending.

    tensor: scaled to a largest entry of 1, as its modes are; `scale` times it is the original tensor.
    """

    tensor: Array
    scale: float
    modes: Modes
    squares: Array

    def at(self, rank: int) -> Modes:
        """The `rank` terms of largest norm, balanced."""
        return balanced(tuple(mode[:, :rank] for mode in self.modes))

    def errors(self, ranks: Sequence[int]) -> Array:
        """Relative error (Frobenius) of the leading terms at each rank, `(len(ranks),)`."""
        left = np.concatenate([[0.0], np.cumsum(self.squares)])
        places = np.maximum(len(self.squares) - np.asarray(ranks, int), 0)
        return np.asarray(np.sqrt(left[places] / (left[-1] or 1.0)))


def orthogonal_terms(tensor: Array, most: int) -> OrthogonalTerms:
    """The orthogonal terms of a tensor with at least three modes, up to `most` of largest norm."""
    scale = float(np.abs(tensor).max(initial=0.0)) or 1.0
    tensor = (tensor / tensor.dtype.type(scale)).astype(tensor.dtype)
    modes, squares = _slice_terms(tensor, most, _principal_bases(tensor), truncated_exact)
    modes = tuple(mode.astype(tensor.dtype, copy=False) for mode in modes)
    return OrthogonalTerms(tensor=tensor, scale=scale, modes=modes, squares=squares)


def exact(tensor: Array, rank: int) -> Modes:
    """An exact CP decomposition by unit vectors of the small modes; `rank` is at least `exact_rank`."""
    return _slice_terms(tensor, rank, [np.eye(n) for n in tensor.shape], truncated)[0]


def exact_rank(shape: Sequence[int]) -> int:
    """A rank at which every tensor of a shape has an exact CP: the product of all modes but the largest."""
    return prod(shape) // max(1, *shape)


def expand(modes: Modes) -> Array:
    """The dense tensor of a sum of rank-1 terms, the inverse of `cp_als.decompose`."""
    a, b, *axes = modes
    flat = np.stack([(a * row) @ b.T for row in khatri_rao(axes)], axis=2)
    return flat.reshape([len(mode) for mode in modes])


def khatri_rao(axes: Sequence[Array]) -> Array:
    """Khatri-Rao product (columnwise Kronecker) of the factors of the kernel axes, `(prod(sizes), r)`."""
    whole: Array = reduce(lambda one, two: (one[:, None] * two).reshape(-1, two.shape[1]), axes)
    return whole


def balanced(modes: Modes) -> Modes:
    """The same terms with equal column norms in all modes, in the modes' own dtype."""
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
    return float(term_squared_norms(grams).sum()) / whole if whole > 0 else 0.0


def gram(mode: Array) -> Array:
    """Gram matrix of a mode's columns, `(r, r)` in float64."""
    return (mode.T @ mode).astype(np.float64)


def term_squared_norms(grams: Sequence[Array]) -> Array:
    """Squared norm of every term, `(r,)`, from the Gram matrices of all modes."""
    return np.asarray(prod([one.diagonal() for one in grams]))


def _slice_terms(tensor: Array, most: int, bases: Sequence[Array], cut: Cut) -> tuple[Modes, Array]:
    """Terms of the slices along the small modes in those bases; `cut` factorizes each slice.

    The `most` terms of largest norm, descending, and the squared norms of all, ascending.
    """
    slices, small = _slices(tensor, bases)
    pairs = [cut(s, min(s.shape)) for s in slices]
    left = np.concatenate([p[0] for p in pairs], axis=1)
    right = np.concatenate([p[1].T for p in pairs], axis=1)
    squares = _column_squared_norms(left) * _column_squared_norms(right)
    order = np.argsort(-squares, kind="stable")
    best = order[:most]
    index = np.repeat(np.arange(len(slices)), min(slices[0].shape))[best]
    columns = np.unravel_index(index, [tensor.shape[mode] for mode in small])
    found = {mode: bases[mode][:, column] for mode, column in zip(small, columns, strict=True)}
    large = iter((left[:, best], right[:, best]))
    modes = tuple(found[mode] if mode in found else next(large) for mode in range(tensor.ndim))
    return modes, squares[order[::-1]]


def _column_squared_norms(columns: Array) -> Array:
    return np.asarray(np.einsum("nr,nr->r", columns, columns, dtype=np.float64))


def _small_modes(tensor: Array) -> list[int]:
    """All modes but the two largest, in order."""
    return sorted(int(mode) for mode in np.argsort(tensor.shape, kind="stable")[:-2])


def _principal_bases(tensor: Array) -> list[Array]:
    """The principal basis `(n, n)` of each small mode; an empty array for the two large modes."""
    small = _small_modes(tensor)
    return [
        singular_vectors(np.moveaxis(tensor, mode, 0).reshape(n, -1), n) if mode in small else np.empty(0)
        for mode, n in enumerate(tensor.shape)
    ]


def _slices(tensor: Array, bases: Sequence[Array]) -> tuple[Array, list[int]]:
    """Matrices over the two large modes, one for each index of the small modes, and the small modes."""
    small = _small_modes(tensor)
    for mode in small:
        turned = np.tensordot(tensor, bases[mode], (mode, 0)).astype(tensor.dtype, copy=False)
        tensor = np.moveaxis(turned, -1, mode)
    first = np.moveaxis(tensor, small, range(len(small)))
    return first.reshape(-1, *first.shape[-2:]), small
