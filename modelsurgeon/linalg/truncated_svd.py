"""Truncated singular value decomposition by the cheapest arithmetic that is accurate enough.

The eigenvectors of `A A^T` are A's left singular vectors, at a fraction of a full SVD's cost. They are
computed in float32, in float64, or by LAPACK's SVD of A itself: each is more expensive and more accurate than
the one before. Forming `A A^T` squares the condition number, so a result is accepted only where its rounding,
a few machine epsilons of the largest eigenvalue, is far below the truncation error; else the next is tried.
Few of many vectors come from block Lanczos iteration, more from an eigen-decomposition.
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
    column_blocks,
    normalized,
    require_finite,
    single_blas_thread,
    squared_norm,
)
from modelsurgeon.linalg.backend import HOST, Backend, backend_for

DEFAULT_ACCURACY = 2e-3  # share by which the truncation error may exceed the least possible one
SINGLE_PRECISION_MIN_ROWS = 256  # below, float64 costs nothing
LANCZOS_MIN_ROWS = 1024
LANCZOS_RANK_DIVISOR = 8  # Lanczos iteration computes at most an eighth of all vectors
LANCZOS_BASIS_RANKS = 3  # columns of a usual basis, as a multiple of the rank
ROUNDING_FACTOR = 8.0  # error of an eigen-decomposition, in machine epsilons of the largest eigenvalue


Precision = np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """The leading part of an SVD: `(left * sigma) @ right` approximates the matrix.

    left (m, r) and right (r, n): orthonormal columns and rows, zero where sigma is; the largest entry of each
    left column is positive. sigma (r,): descending. error: relative error (Frobenius) of the approximation.
    way: the algorithm and its precision, such as "block Lanczos in float32".
    """

    left: Array
    sigma: Array
    right: Array
    error: float
    way: str


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request for `rank` singular vectors at an accuracy. total: the matrix's squared Frobenius norm."""

    rank: int
    total: float
    accuracy: float
    seed: int


def svd(matrix: Array, rank: int, *, accuracy: float = DEFAULT_ACCURACY, seed: int = 0) -> Truncation:
    """The `rank` leading singular values and vectors of a real (m, n) matrix of any float or integer dtype.

    accuracy: the error may exceed the least possible one by this share; 0 asks for the dtype's full
    precision. The same seed gives the same result. Raises UnsupportedLayer where the matrix holds NaN or Inf.
    Source: Eckart and Young, 1936.
    """
    scaled, unit = normalized(require_finite(matrix))
    total = squared_norm(scaled)
    left, sigma, right, way = _leading_triplets(
        scaled, _Request(rank=rank, total=total, accuracy=accuracy, seed=seed)
    )
    error = _truncation_error(scaled, left, sigma, right, total)
    return Truncation(left=left, sigma=sigma * unit, right=right, error=error, way=way)


def truncated(
    matrix: Array, rank: int, *, accuracy: float = DEFAULT_ACCURACY, seed: int = 0
) -> tuple[Array, Array]:
    """The best rank-`rank` approximation of an (m, n) matrix, as `(left (m, rank), right (rank, n))`.

    Each factor is multiplied by the square roots of the singular values, so that neither overflows half
    precision. At full rank one factor is the matrix itself and the other the identity, without rounding.
    accuracy, seed, errors raised: see `svd`.
    """
    m, n = matrix.shape
    if rank < min(m, n):
        return truncated_exact(matrix, rank, accuracy=accuracy, seed=seed)
    matrix = require_finite(matrix)
    return (np.eye(m, dtype=matrix.dtype), matrix) if m <= n else (matrix, np.eye(n, dtype=matrix.dtype))


def truncated_exact(
    matrix: Array, rank: int, *, accuracy: float = DEFAULT_ACCURACY, seed: int = 0
) -> tuple[Array, Array]:
    """The same as `truncated`, with scaled singular vectors for columns and rows at full rank, too."""
    scaled, unit = normalized(require_finite(matrix))
    request = _Request(rank=rank, total=squared_norm(scaled), accuracy=accuracy, seed=seed)
    left, sigma, right, _ = _leading_triplets(scaled, request)
    shared = np.sqrt(sigma * unit).astype(left.dtype)
    return left * shared, right * shared[:, None]


def leading_subspace(matrix: Array, rank: int, *, accuracy: float = DEFAULT_ACCURACY, seed: int = 0) -> Array:
    """Orthonormal basis `(m, rank)` of the leading left singular subspace of an (m, n) matrix; rank <= m."""
    if rank >= len(matrix):
        return np.eye(len(matrix))
    return singular_vectors(matrix, rank, accuracy=accuracy, seed=seed)


def singular_vectors(matrix: Array, rank: int, *, accuracy: float = DEFAULT_ACCURACY, seed: int = 0) -> Array:
    """Leading left singular vectors `(m, rank)` of an (m, n) matrix, by descending singular value."""
    scaled, _ = normalized(require_finite(matrix))
    m, n = scaled.shape
    # From the right singular vectors; QR keeps the basis orthonormal where singular values vanish.
    tall = rank <= n < m
    short = scaled.T if tall else scaled
    with single_blas_thread(len(short)):
        request = _Request(rank=rank, total=squared_norm(scaled), accuracy=accuracy, seed=seed)
        basis, _ = _leading_vectors(short, request)
        return HOST.orthonormal(scaled @ basis) if tall else basis


def singular_values(matrix: Array) -> Array:
    """All singular values of an (m, n) matrix, descending, shape `(min(m, n),)`.

    From the Gram matrix in float64: exact down to 1e-8 of the largest, noise below.
    Raises UnsupportedLayer where the matrix holds NaN or Inf.
    """
    scaled, unit = normalized(require_finite(matrix))
    short = scaled if scaled.shape[0] <= scaled.shape[1] else scaled.T
    backend = backend_for(short)
    with single_blas_thread(len(short)):
        values = backend.eigenvalues(_gram(backend.put(short), np.dtype(np.float64), backend))
    return np.asarray(np.sqrt(np.maximum(values, 0.0)) * unit)


def _leading_triplets(matrix: Array, request: _Request) -> tuple[Array, Array, Array, str]:
    """Left vectors, singular values in float64, right vectors, and the algorithm used."""
    tall = matrix.shape[0] > matrix.shape[1]
    short = matrix.T if tall else matrix
    with single_blas_thread(len(short)):
        basis, way = _leading_vectors(short, replace(request, rank=min(request.rank, len(short))))
        other = _projected(basis, short)
    sigma = np.linalg.norm(other.astype(np.float64), axis=1)
    order = np.argsort(-sigma, kind="stable")
    basis, other, sigma = basis[:, order].astype(matrix.dtype), other[order], sigma[order]
    other /= np.where(sigma > 0, sigma, 1.0)[:, None].astype(other.dtype)
    left, right = _fix_signs(*((other.T, basis.T) if tall else (basis, other)))
    return left, sigma, right, way


def _leading_vectors(matrix: Array, request: _Request) -> tuple[Array, str]:
    """Leading left singular vectors `(m, rank)`, and the algorithm used."""
    if request.total == 0 or request.rank == 0:
        return np.eye(len(matrix), request.rank, dtype=matrix.dtype), "nothing to do"
    backend = backend_for(matrix)
    on_device = backend.put(matrix)
    for dtype in _precisions(matrix):
        values, vectors, way = _leading_eigenpairs(on_device, request, dtype, backend)
        # At full rank any basis of the whole space is exact.
        complete = request.rank == len(matrix) and request.accuracy > 0
        if complete or _is_accurate(values, request, dtype, matrix.dtype):
            return backend.take(vectors), f"{way} in {dtype}"
    left = linalg.svd(matrix, full_matrices=False, check_finite=False)[0]
    return left[:, : request.rank], "LAPACK"


def _precisions(matrix: Array) -> list[Precision]:
    """The arithmetic to try, cheapest first."""
    single = matrix.dtype == np.float32 and len(matrix) >= SINGLE_PRECISION_MIN_ROWS
    return [np.dtype(t) for t in ((np.float32, np.float64) if single else (np.float64,))]


def _is_accurate(values: Array, request: _Request, dtype: Precision, original: Precision) -> bool:
    """Whether the rounding in the leading eigenvalues is below what the accuracy allows.

    original: dtype of the matrix; a truncation error below its resolution is accepted as well.
    """
    rounding = ROUNDING_FACTOR * float(np.finfo(dtype).eps) * float(values[0])
    left_out = request.total - float(values.sum(dtype=np.float64))
    negligible = (4 * float(np.finfo(original).eps)) ** 2 * request.total
    return rounding <= max(request.accuracy * left_out, negligible)


def _leading_eigenpairs(
    matrix: Any,  # noqa: ANN401 - an array of the backend
    request: _Request,
    dtype: Precision,
    backend: Backend,
) -> tuple[Array, Any, str]:
    """Leading eigenvalues and vectors of `A A^T` in the precision of `dtype`, and the algorithm used."""
    m, n = matrix.shape
    iterate = m >= LANCZOS_MIN_ROWS and request.rank * LANCZOS_RANK_DIVISOR <= m and request.accuracy > 0
    original = backend.take(matrix[:0]).dtype
    symmetric = None
    if iterate and dtype == original and _gram_free_is_cheaper(m, n, request.rank):
        found = _by_lanczos(lambda block: matrix @ (matrix.T @ block), m, request, dtype, backend)
    else:
        symmetric = _gram(matrix, dtype, backend)
        found = _by_lanczos(lambda block: symmetric @ block, m, request, dtype, backend) if iterate else None
    if found is not None:
        return *found, "block Lanczos"
    symmetric = _gram(matrix, dtype, backend) if symmetric is None else symmetric
    return *backend.top(symmetric, request.rank), "Gram matrix"


def _by_lanczos(
    product: Callable[[Any], Any], m: int, request: _Request, dtype: Precision, backend: Backend
) -> tuple[Array, Any] | None:
    """Leading eigenpairs by block Lanczos iteration from a seeded random block; None if slow to converge."""
    rng = np.random.default_rng(request.seed)
    start = rng.standard_normal((m, lanczos.block_width(request.rank)), dtype=np.float32).astype(dtype)
    return lanczos.eigenvectors(
        product,
        backend.put(start),
        request.rank,
        trace=request.total,
        accuracy=2 * request.accuracy,  # of the squared error
        backend=backend,
        rng=rng,
    )


def _gram_free_is_cheaper(m: int, n: int, rank: int) -> bool:
    """Whether products with A and A^T need fewer operations than forming and multiplying by `A A^T`."""
    columns = LANCZOS_BASIS_RANKS * rank
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
    for start, block in zip(range(0, matrix.shape[1], COLUMN_BLOCK), column_blocks(matrix), strict=True):
        right[:, start : start + COLUMN_BLOCK] = basis.T @ block
    return right


def _truncation_error(matrix: Array, left: Array, sigma: Array, right: Array, total: float) -> float:
    """Relative error of the approximation: from the norms, or from the residual where those would cancel."""
    if total == 0:
        return 0.0
    rest = 1.0 - float(np.square(sigma).sum()) / total
    if rest < np.finfo(matrix.dtype).eps ** 0.5:  # half of the digits are gone
        rest = _squared_residual(matrix, left * sigma, right) / total
    return float(np.sqrt(rest))


def _squared_residual(matrix: Array, left: Array, right: Array) -> float:
    """Squared norm of `A - left @ right`."""
    wide = left.astype(np.float64, copy=False)
    starts = range(0, matrix.shape[1], COLUMN_BLOCK)
    parts = zip(starts, column_blocks(matrix), strict=True)
    residuals = (block - wide @ right[:, at : at + COLUMN_BLOCK] for at, block in parts)
    return sum(float(np.vdot(residual, residual)) for residual in residuals)


def _fix_signs(left: Array, right: Array) -> tuple[Array, Array]:
    """Flip signs so that the largest entry of each left column is positive: the same on every machine."""
    if not left.size:
        return left, right
    peak = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    sign = np.where(peak < 0, -1.0, 1.0).astype(left.dtype)
    return left * sign, right * sign[:, None]
