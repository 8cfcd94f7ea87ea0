"""The leading part of a singular value decomposition, by the cheapest way that can be believed.

The eigenvectors of `A A^T` are A's left singular vectors, at a fraction of a full SVD's cost. Three ways lead
there, each dearer and more accurate than the one before: float32 arithmetic, float64 arithmetic, and LAPACK's
SVD of A itself. Forming `A A^T` squares the condition number, so a way is believed only where its rounding,
a few units of the largest eigenvalue, is far below the error that the cut leaves anyway; else the next is
taken. Within a way, few vectors of many come from block Lanczos iteration, more from an eigen-decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from modelsurgeon.layers import Array
from modelsurgeon.linalg import lanczos
from modelsurgeon.linalg.arrays import (
    COLUMN_BLOCK,
    blocks,
    normalised,
    require_finite,
    single_blas_thread,
    squared_norm,
)
from modelsurgeon.linalg.backend import HOST, Backend, backend_for

ACCURACY = 2e-3
SINGLE_FROM = 256  # rows; below, float64 costs nothing
KRYLOV_FROM = 1024
KRYLOV_SHARE = 8  # at most this fraction of all vectors is wanted
KRYLOV_BASIS = 3  # ranks of columns in a usual basis
ROUNDING_FACTOR = 8.0  # units of the largest eigenvalue that an eigen-decomposition may be off by


Precision = np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """The leading part of an SVD: `(left * sigma) @ right` approximates the matrix.

    left (m, r) and right (r, n): orthonormal columns and rows, zero where sigma is; the largest entry of each
    left column is positive. sigma (r,): largest first. error: relative Frobenius norm of what is left out.
    way: how it was computed.
    """

    left: Array
    sigma: Array
    right: Array
    error: float
    way: str


@dataclass(frozen=True, kw_only=True)
class _Request:
    """How many vectors are wanted and how good they have to be. total: the matrix's squared norm."""

    rank: int
    total: float
    accuracy: float
    seed: int


def svd(matrix: Array, rank: int, *, accuracy: float = ACCURACY, seed: int = 0) -> Truncation:
    """The `rank` leading singular values and vectors of an (m, n) matrix of real numbers of any format.

    accuracy: the error may exceed the least possible one by this share; 0 asks for all that the format holds.
    The same seed gives the same result. Raises UnsupportedLayer where the matrix holds NaN or Inf.
    Source: Eckart and Young, 1936.
    """
    scaled, unit = normalised(require_finite(matrix))
    total = squared_norm(scaled)
    left, sigma, right, way = _parts(scaled, _Request(rank=rank, total=total, accuracy=accuracy, seed=seed))
    error = _truncation_error(scaled, left, sigma, right, total)
    return Truncation(left=left, sigma=sigma * unit, right=right, error=error, way=way)


def truncated(matrix: Array, rank: int, *, accuracy: float = ACCURACY, seed: int = 0) -> tuple[Array, Array]:
    """The best rank-`rank` approximation of an (m, n) matrix, as `(left (m, rank), right (rank, n))`.

    The singular values are shared evenly between both factors, so that neither outgrows half precision. At
    full rank one factor is the matrix itself and the other the identity: nothing is cut, so nothing is
    rounded. accuracy, seed: see `svd`.
    """
    m, n = matrix.shape
    if rank < min(m, n):
        return truncated_exact(matrix, rank, accuracy=accuracy, seed=seed)
    matrix = require_finite(matrix)
    return (np.eye(m, dtype=matrix.dtype), matrix) if m <= n else (matrix, np.eye(n, dtype=matrix.dtype))


def truncated_exact(
    matrix: Array, rank: int, *, accuracy: float = ACCURACY, seed: int = 0
) -> tuple[Array, Array]:
    """`truncated` without its short cut: the columns are the singular vectors at full rank, too."""
    scaled, unit = normalised(require_finite(matrix))
    wish = _Request(rank=rank, total=squared_norm(scaled), accuracy=accuracy, seed=seed)
    left, sigma, right, _ = _parts(scaled, wish)
    shared = np.sqrt(sigma * unit).astype(left.dtype)
    return left * shared, right * shared[:, None]


def leading_subspace(matrix: Array, rank: int, *, accuracy: float = ACCURACY, seed: int = 0) -> Array:
    """Orthonormal basis `(m, rank)` of the leading left singular subspace of an (m, n) matrix; rank <= m."""
    if rank >= len(matrix):
        return np.eye(len(matrix))
    return singular_vectors(matrix, rank, accuracy=accuracy, seed=seed)


def singular_vectors(matrix: Array, rank: int, *, accuracy: float = ACCURACY, seed: int = 0) -> Array:
    """As `leading_subspace`, but singular vectors in the order of their values at full rank, too."""
    scaled, _ = normalised(require_finite(matrix))
    m, n = scaled.shape
    through = rank <= n < m  # the shorter side; QR keeps the basis orthonormal where singular values vanish
    short = scaled.T if through else scaled
    with single_blas_thread(len(short)):
        wish = _Request(rank=rank, total=squared_norm(scaled), accuracy=accuracy, seed=seed)
        basis, _ = _top(short, wish)
        return HOST.orthonormal(scaled @ basis) if through else basis


def singular_values(matrix: Array) -> Array:
    """All singular values of an (m, n) matrix, largest first, shape `(min(m, n),)`.

    From the Gram matrix in float64: down to 1e-8 of the largest they are exact, below that they are noise.
    """
    scaled, unit = normalised(require_finite(matrix))
    short = scaled if scaled.shape[0] <= scaled.shape[1] else scaled.T
    backend = backend_for(short)
    with single_blas_thread(len(short)):
        values = backend.eigenvalues(_gram(backend.put(short), np.dtype(np.float64), backend))
    return np.asarray(np.sqrt(np.maximum(values, 0.0)) * unit)


def _parts(matrix: Array, wish: _Request) -> tuple[Array, Array, Array, str]:
    """Left vectors, singular values in float64, right vectors, and the way they were found."""
    tall = matrix.shape[0] > matrix.shape[1]
    short = matrix.T if tall else matrix
    with single_blas_thread(len(short)):
        basis, way = _top(short, replace(wish, rank=min(wish.rank, len(short))))
        other = _projected(basis, short)
    sigma = np.linalg.norm(other.astype(np.float64), axis=1)
    order = np.argsort(-sigma, kind="stable")
    basis, other, sigma = basis[:, order].astype(matrix.dtype), other[order], sigma[order]
    other /= np.where(sigma > 0, sigma, 1.0)[:, None].astype(other.dtype)
    left, right = _fix_signs(*((other.T, basis.T) if tall else (basis, other)))
    return left, sigma, right, way


def _top(matrix: Array, wish: _Request) -> tuple[Array, str]:
    """Leading left singular vectors `(m, rank)`, and the way they were found."""
    if wish.total == 0 or wish.rank == 0:
        return np.eye(len(matrix), wish.rank, dtype=matrix.dtype), "nothing to do"
    backend = backend_for(matrix)
    there = backend.put(matrix)
    for dtype in _precisions(matrix):
        values, vectors, way = _eigenvectors(there, wish, dtype, backend)
        whole = wish.rank == len(matrix) and wish.accuracy > 0  # every basis holds all of it
        if whole or _is_accurate(values, wish, dtype, matrix.dtype):
            return backend.take(vectors), f"{way} in {dtype}"
    left = linalg.svd(matrix, full_matrices=False, check_finite=False)[0]
    return left[:, : wish.rank], "LAPACK"


def _precisions(matrix: Array) -> list[Precision]:
    """The arithmetic to try, cheapest first."""
    single = matrix.dtype == np.float32 and len(matrix) >= SINGLE_FROM
    return [np.dtype(t) for t in ((np.float32, np.float64) if single else (np.float64,))]


def _is_accurate(values: Array, wish: _Request, dtype: Precision, given: Precision) -> bool:
    """Whether the rounding in leading eigenvalues is below what the accuracy allows.

    What is left out may also be so little that the format the matrix was given in can't tell it from nothing.
    """
    rounding = ROUNDING_FACTOR * float(np.finfo(dtype).eps) * float(values[0])
    left_out = wish.total - float(values.sum(dtype=np.float64))
    negligible = (4 * float(np.finfo(given).eps)) ** 2 * wish.total
    return rounding <= max(wish.accuracy * left_out, negligible)


def _eigenvectors(
    matrix: Any,  # noqa: ANN401 - an array of the backend
    wish: _Request,
    dtype: Precision,
    backend: Backend,
) -> tuple[Array, Any, str]:
    """Leading eigenvalues and vectors of `A A^T` in the precision of `dtype`, and how they were found."""
    m, n = matrix.shape
    few = m >= KRYLOV_FROM and wish.rank * KRYLOV_SHARE <= m and wish.accuracy > 0
    given = backend.take(matrix[:0]).dtype
    symmetric = None
    if few and dtype == given and _direct_pays(m, n, wish.rank):
        found = _iterated(lambda block: matrix @ (matrix.T @ block), m, wish, dtype, backend)
    else:
        symmetric = _gram(matrix, dtype, backend)
        found = _iterated(lambda block: symmetric @ block, m, wish, dtype, backend) if few else None
    if found is not None:
        return *found, "block Lanczos"
    symmetric = _gram(matrix, dtype, backend) if symmetric is None else symmetric
    return *backend.top(symmetric, wish.rank), "Gram matrix"


def _iterated(
    product: Callable[[Any], Any], m: int, wish: _Request, dtype: Precision, backend: Backend
) -> tuple[Array, Any] | None:
    """The same by block Lanczos iteration from a seeded random block; None where that is slow to converge."""
    draw = np.random.default_rng(wish.seed)
    start = draw.standard_normal((m, lanczos.block_width(wish.rank)), dtype=np.float32).astype(dtype)
    return lanczos.eigenvectors(
        product,
        backend.put(start),
        wish.rank,
        square=wish.total,
        accuracy=2 * wish.accuracy,  # of a square
        backend=backend,
        draw=draw,
    )


def _direct_pays(m: int, n: int, rank: int) -> bool:
    """Whether products with A and A^T cost less than the Gram matrix and products with it."""
    columns = KRYLOV_BASIS * rank
    return 4 * n * columns < m * (n + 2 * columns)


def _gram(matrix: Any, dtype: Precision, backend: Backend) -> Any:  # noqa: ANN401
    """`A A^T` in the precision of `dtype`, from blocks of columns."""
    total = None
    for start in range(0, matrix.shape[1], COLUMN_BLOCK):
        block = matrix[:, start : start + COLUMN_BLOCK]
        block = backend.double(block) if dtype == np.float64 else block
        part = block @ block.T
        total = part if total is None else total + part
    return total


def _projected(basis: Array, matrix: Array) -> Array:
    """`basis^T A`, `(rank, n)` in A's dtype, computed in the wider of both precisions."""
    if basis.dtype == matrix.dtype:
        backend = backend_for(matrix)
        return backend.take(backend.put(basis).T @ backend.put(matrix))
    right = np.empty((basis.shape[1], matrix.shape[1]), matrix.dtype)
    for start, block in zip(range(0, matrix.shape[1], COLUMN_BLOCK), blocks(matrix), strict=True):
        right[:, start : start + COLUMN_BLOCK] = basis.T @ block
    return right


def _truncation_error(matrix: Array, left: Array, sigma: Array, right: Array, total: float) -> float:
    """Relative error of what was kept: by Pythagoras, or measured where that would be all cancellation."""
    if total == 0:
        return 0.0
    rest = 1.0 - float(np.square(sigma).sum()) / total
    if rest < np.finfo(matrix.dtype).eps ** 0.5:  # half of the digits are gone
        rest = _distance(matrix, left * sigma, right) / total
    return float(np.sqrt(rest))


def _distance(matrix: Array, left: Array, right: Array) -> float:
    """Squared norm of `A - left @ right`."""
    wide = left.astype(np.float64, copy=False)
    starts = range(0, matrix.shape[1], COLUMN_BLOCK)
    parts = zip(starts, blocks(matrix), strict=True)
    gaps = (block - wide @ right[:, at : at + COLUMN_BLOCK] for at, block in parts)
    return sum(float(np.vdot(gap, gap)) for gap in gaps)


def _fix_signs(left: Array, right: Array) -> tuple[Array, Array]:
    """Make the entry of largest magnitude in each left column positive: the same result on every machine."""
    if not left.size:
        return left, right
    peak = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    sign = np.where(peak < 0, -1.0, 1.0).astype(left.dtype)
    return left * sign, right * sign[:, None]
