"""What every factorization asks of its matrix first: finite numbers, a safe scale, blocks, quiet threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
from scipy import linalg
from threadpoolctl import ThreadpoolController

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array

COLUMN_BLOCK = 2048  # columns that are held in float64 at a time
CACHE_BLOCK = 2**15  # entries that fit into a cache in float64
SINGLE_THREAD_BELOW = 1024
SAFE_EXPONENT = (
    20  # binary orders of magnitude around 1 within which nothing over- or underflows when squared
)


def single_blas_thread(size: int) -> AbstractContextManager[object]:
    """BLAS on one thread for small matrices: more threads save little, and spin where cores are shared.

    size: the longest side that is multiplied or factorized. On two busy cores the gain is tenfold and more.
    """
    return _blas().limit(limits=1, user_api="blas") if size < SINGLE_THREAD_BELOW else nullcontext()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def require_finite(array: Array) -> Array:
    """The array in float32 or float64; a NaN or Inf in it is an `UnsupportedLayer`."""
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UnsupportedLayer(
            "the weight holds NaN or Inf, finite numbers are needed: repair the model first"
        )
    return array


def normalised(matrix: Array) -> tuple[Array, float]:
    """The matrix divided by a power of two, which rounds nothing, and that power.

    A matrix of ordinary size is returned as it is, with 1.0: only what would overflow or vanish when it is
    squared is copied.
    """
    peak = max(float(matrix.max()), -float(matrix.min())) if matrix.size else 0.0
    exponent = int(np.frexp(peak)[1]) - 1
    if peak == 0 or abs(exponent) <= SAFE_EXPONENT:
        return matrix, 1.0
    return np.ldexp(matrix, -exponent), float(np.ldexp(1.0, exponent))


def blocks(matrix: Array) -> Iterator[Array]:
    """Columns in float64, a block at a time."""
    for start in range(0, matrix.shape[1], COLUMN_BLOCK):
        yield matrix[:, start : start + COLUMN_BLOCK].astype(np.float64)


def squared_norm(matrix: Array) -> float:
    """Sum of the squared entries, in float64, a cache's worth at a time."""
    flat = matrix.ravel(order="K")
    pieces = (flat[at : at + CACHE_BLOCK].astype(np.float64) for at in range(0, flat.size, CACHE_BLOCK))
    return sum(float(np.square(piece).sum()) for piece in pieces)


def cholesky(covariance: Array, floor: float) -> Array:
    """Lower triangular S of `S S^T`, a covariance `(n, n)` with a floor under its variances.

    floor: a share of the mean variance; larger where rounding left the covariance indefinite.
    Raises UnsupportedLayer where it holds NaN or Inf, which no floor mends.
    """
    if not np.isfinite(covariance).all():
        raise UnsupportedLayer(
            "what goes through it on the data holds NaN or Inf, or overflows when squared: "
            "finite numbers are needed, look with `info --data`"
        )
    mean = max(0.0, float(np.trace(covariance))) / len(covariance) or 1.0
    while True:
        raised = covariance + floor * mean * np.eye(len(covariance))
        try:
            return np.asarray(linalg.cholesky(raised, lower=True, check_finite=False))
        except linalg.LinAlgError:
            floor *= 10


def times_factor(array: Array, root: Array, axis: int) -> Array:
    """The array times S along one axis."""
    return np.moveaxis(np.tensordot(array, root, (axis, 0)), -1, axis)


def solve_factor(array: Array, root: Array, axis: int, *, transposed: bool = False) -> Array:
    """The array times the inverse of S along one axis, or of S^T; S is lower triangular."""
    moved = np.moveaxis(array, axis, 0)
    flat = moved.reshape(len(moved), -1).astype(np.float64)
    solved = linalg.solve_triangular(root, flat, trans=0 if transposed else 1, lower=True, check_finite=False)
    return np.moveaxis(solved.reshape(moved.shape), 0, axis)
