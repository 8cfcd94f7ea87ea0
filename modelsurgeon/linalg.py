"""Truncated matrix factorizations on the Gram matrix of the shorter side.

The eigenvectors of `A A^T` are A's left singular vectors, at a fraction of the cost of a full SVD when one
side is short. Forming the Gram matrix squares the condition number, so it is formed in float64: singular
values then hold down to 1e-8 of the largest. A projection onto all of its eigenvectors is exact whatever
the conditioning, because they are a complete orthonormal basis.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layer import Array


def truncated(matrix: Array, rank: int) -> tuple[Array, Array]:
    """The best rank-`rank` approximation of an (m, n) matrix, as `(left (m, rank), right (rank, n))`.

    The singular values are shared evenly between both factors, so that neither outgrows half precision, and
    the largest entry of each left column is positive. At full rank one factor is the matrix itself and the
    other the identity: nothing is cut, so nothing is rounded. Source: Eckart and Young, 1936.
    """
    matrix = finite(matrix)
    m, n = matrix.shape
    if rank >= min(m, n):
        return (np.eye(m), matrix) if m <= n else (matrix, np.eye(n))
    return principal(matrix, rank)


def principal(matrix: Array, rank: int) -> tuple[Array, Array]:
    """`truncated` without its short cut: the columns are the singular vectors at full rank, too."""
    if matrix.shape[0] > matrix.shape[1]:
        right, left = principal(matrix.T, rank)
        return _fix_signs(left.T, right.T)
    basis = _top(matrix, rank)
    right = basis.T @ matrix
    sigma = np.linalg.norm(right, axis=1)
    scale = np.sqrt(np.where(sigma > 0, sigma, 1.0))
    return _fix_signs(basis * scale, right / scale[:, None])


def leading(matrix: Array, rank: int) -> Array:
    """Orthonormal basis `(m, rank)` of the leading left singular subspace of an (m, n) matrix; rank <= m."""
    m, n = matrix.shape
    if rank >= m:
        return np.eye(m)
    if rank <= n < m:  # through the shorter side; QR keeps the basis orthonormal where singular values vanish
        return np.asarray(linalg.qr(matrix @ _top(matrix.T, rank), mode="economic")[0])
    return _top(matrix, rank)


def _top(matrix: Array, rank: int) -> Array:
    """Leading eigenvectors of `matrix @ matrix.T`, largest first."""
    gram = matrix @ matrix.T
    m = len(gram)
    subset = None if rank > m // 4 else (m - rank, m - 1)
    _, vectors = linalg.eigh(gram, subset_by_index=subset, driver="evd" if subset is None else "evr")
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])


def singular_values(matrix: Array) -> Array:
    """All singular values of an (m, n) matrix, largest first, shape `(min(m, n),)`."""
    matrix = finite(matrix)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return np.sqrt(np.maximum(linalg.eigvalsh(short @ short.T)[::-1], 0.0))


def finite(array: Array) -> Array:
    """The array in float64; a NaN or Inf in it is an `UnsupportedLayer`."""
    array = np.asarray(array, np.float64)
    if not np.isfinite(array).all():
        raise UnsupportedLayer(
            "the weight holds NaN or Inf, finite numbers are needed: repair the model first"
        )
    return array


def _fix_signs(left: Array, right: Array) -> tuple[Array, Array]:
    """Make the entry of largest magnitude in each left column positive: the same result on every machine."""
    if not left.size:
        return left, right
    peak = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    sign = np.where(peak < 0, -1.0, 1.0)
    return left * sign, right * sign[:, None]
