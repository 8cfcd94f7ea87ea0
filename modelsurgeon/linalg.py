"""Truncated matrix factorizations on the Gram matrix of the shorter side.

The eigenvectors of `A A^T` are A's left singular vectors, at a fraction of a full SVD's cost. Forming the
Gram matrix squares the condition number, so it is formed in float64, block by block: singular values then
hold down to 1e-8 of the largest, and no second copy of a large weight is made. Where few vectors of many are
wanted, block Krylov iteration takes the place of the eigen-decomposition,
whose error is within .2 % of the least.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
from scipy import linalg
from threadpoolctl import ThreadpoolController

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layer import Array

BLOCK = 2048  # columns that are held in float64 at a time
KRYLOV_FROM = 1024  # rows; below, the exact eigen-decomposition is quick
KRYLOV_SHARE = 16  # and at most this fraction of all vectors is wanted
KRYLOV_STEPS = 4
CALM_BELOW = 1024


def truncated(matrix: Array, rank: int, *, seed: int = 0) -> tuple[Array, Array]:
    """The best rank-`rank` approximation of an (m, n) matrix, as `(left (m, rank), right (rank, n))`.

    The singular values are shared evenly between both factors, so that neither outgrows half precision, and
    the largest entry of each left column is positive. At full rank one factor is the matrix itself and the
    other the identity: nothing is cut, so nothing is rounded. Source: Eckart and Young, 1936.
    """
    matrix = finite(matrix)
    m, n = matrix.shape
    if rank >= min(m, n):
        return (np.eye(m), matrix) if m <= n else (matrix, np.eye(n))
    return principal(matrix, rank, seed=seed)


def principal(matrix: Array, rank: int, *, seed: int = 0) -> tuple[Array, Array]:
    """`truncated` without its short cut: the columns are the singular vectors at full rank, too."""
    if matrix.shape[0] > matrix.shape[1]:
        right, left = principal(matrix.T, rank, seed=seed)
        return _fix_signs(left.T, right.T)
    basis = _top(matrix, rank, seed)
    right = _projected(basis, matrix)
    sigma = np.linalg.norm(right, axis=1)
    scale = np.sqrt(np.where(sigma > 0, sigma, 1.0))
    right /= scale[:, None]
    return _fix_signs(basis * scale, right)


def leading(matrix: Array, rank: int, *, seed: int = 0) -> Array:
    """Orthonormal basis `(m, rank)` of the leading left singular subspace of an (m, n) matrix; rank <= m."""
    return np.eye(len(matrix)) if rank >= len(matrix) else directions(matrix, rank, seed=seed)


def directions(matrix: Array, rank: int, *, seed: int = 0) -> Array:
    """`leading` without its short cut: singular vectors in the order of their values at full rank, too."""
    m, n = matrix.shape
    if rank <= n < m:  # through the shorter side; QR keeps the basis orthonormal where singular values vanish
        return _orthonormal(matrix @ _top(matrix.T, rank, seed))
    return _top(matrix, rank, seed)


def singular_values(matrix: Array) -> Array:
    """All singular values of an (m, n) matrix, largest first, shape `(min(m, n),)`."""
    matrix = finite(matrix)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    with calm(len(short)):
        return np.sqrt(np.maximum(linalg.eigvalsh(gram(short))[::-1], 0.0))


def calm(size: int) -> AbstractContextManager[object]:
    """BLAS on one thread for small matrices: more threads save little, and spin where cores are shared.

    size: the longest side that is multiplied or factorized. On two busy cores the gain is tenfold and more.
    """
    return _blas().limit(limits=1, user_api="blas") if size < CALM_BELOW else nullcontext()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def gram(matrix: Array) -> Array:
    """`A A^T` of an (m, n) matrix, `(m, m)` in float64, from blocks of columns."""
    total = np.zeros((len(matrix), len(matrix)))
    for block in _blocks(matrix):
        total += block @ block.T
    return total


def finite(array: Array) -> Array:
    """The array in float32 or float64; a NaN or Inf in it is an `UnsupportedLayer`."""
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UnsupportedLayer(
            "the weight holds NaN or Inf, finite numbers are needed: repair the model first"
        )
    return array


def _top(matrix: Array, rank: int, seed: int) -> Array:
    """Leading eigenvectors `(m, rank)` of `A A^T`, largest first."""
    m = len(matrix)
    if m >= KRYLOV_FROM and rank * KRYLOV_SHARE <= m:
        return _krylov(matrix, rank, seed)
    return _eigenvectors(gram(matrix), rank)


def _eigenvectors(gram: Array, rank: int) -> Array:
    m = len(gram)
    subset = None if rank > m // 4 else (m - rank, m - 1)
    with calm(m):
        _, vectors = linalg.eigh(gram, subset_by_index=subset, driver="evd" if subset is None else "evr")
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])


def _krylov(matrix: Array, rank: int, seed: int) -> Array:
    """Rayleigh-Ritz on a block Krylov space of `A A^T` (Musco and Musco, 2015, arXiv:1504.05477)."""
    draw = np.random.default_rng(seed).standard_normal((len(matrix), rank + 8))
    block, space = draw.astype(matrix.dtype), []
    for _ in range(KRYLOV_STEPS):
        block = _orthonormal(matrix @ (matrix.T @ block))
        space.append(block)
    basis = _orthonormal(np.concatenate(space, axis=1).astype(np.float64))
    vectors = _eigenvectors(gram(_projected(basis, matrix)), rank)
    return np.asarray(basis @ vectors)


def _orthonormal(columns: Array) -> Array:
    return np.asarray(linalg.qr(columns, mode="economic")[0])


def _projected(basis: Array, matrix: Array) -> Array:
    """`basis^T A`, `(rank, n)` in A's dtype, computed in float64."""
    right = np.empty((basis.shape[1], matrix.shape[1]), matrix.dtype)
    for start, block in zip(range(0, matrix.shape[1], BLOCK), _blocks(matrix), strict=True):
        right[:, start : start + BLOCK] = basis.T @ block
    return right


def _blocks(matrix: Array) -> Iterator[Array]:
    """Columns in float64, a block at a time."""
    for start in range(0, matrix.shape[1], BLOCK):
        yield matrix[:, start : start + BLOCK].astype(np.float64)


def _fix_signs(left: Array, right: Array) -> tuple[Array, Array]:
    """Make the entry of largest magnitude in each left column positive: the same result on every machine."""
    if not left.size:
        return left, right
    peak = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    sign = np.where(peak < 0, -1.0, 1.0).astype(left.dtype)
    return left * sign, right * sign[:, None]
