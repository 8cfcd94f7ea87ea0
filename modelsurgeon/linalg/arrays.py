"""Array preparation for every factorization: finite values, a safe scale, column blocks, BLAS threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
from scipy import linalg
from threadpoolctl import ThreadpoolController

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.shared_settings import SharedSetting

COLUMN_BLOCK = 2048  # columns that are held in float64 at a time
CACHE_BLOCK = 2**15  # entries that fit into a cache in float64
SINGLE_THREAD_BELOW = 1024  # rows or columns of the longest side
VARIANCE_FLOOR = 1e-4  # of the mean variance, added to each: directions that no sample showed may still come
SAFE_EXPONENT = 20  # entries with a magnitude from 2**-20 to 2**20 are squared without scaling


def single_blas_thread(size: int) -> AbstractContextManager[object]:
    """A context in which BLAS uses one thread for small matrices; more save little, and spin on shared cores.

    size: the longest side that is multiplied or factorized. On two busy cores the gain is tenfold and more.
    """
    return _SINGLE_BLAS_THREAD if size < SINGLE_THREAD_BELOW else nullcontext()


def _limit_blas() -> Callable[[], object]:
    """Limit BLAS to one thread, and return the function that restores its threads."""
    _release_blas()
    limiter = _blas().limit(limits=1, user_api="blas")

    def restore() -> None:
        _release_blas()
        limiter.restore_original_limits()
        _release_blas()

    return restore


def _release_blas() -> None:
    """Let this thread set the threads of BLAS: threadpoolctl 3.8 ignores all but the first one that did."""
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


_SINGLE_BLAS_THREAD = SharedSetting(_limit_blas)


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


def normalized(matrix: Array) -> tuple[Array, float]:
    """The matrix divided by a power of two, which rounds nothing, and that power.

    A matrix whose squares neither overflow nor vanish is returned as it is, with 1.0.
    """
    peak = max(float(matrix.max()), -float(matrix.min())) if matrix.size else 0.0
    exponent = int(np.frexp(peak)[1]) - 1
    if peak == 0 or abs(exponent) <= SAFE_EXPONENT:
        return matrix, 1.0
    return np.ldexp(matrix, -exponent), float(np.ldexp(1.0, exponent))


def column_blocks(matrix: Array) -> Iterator[Array]:
    """Blocks `(m, COLUMN_BLOCK)` of columns in float64, from left to right; the last may be narrower."""
    for start in range(0, matrix.shape[1], COLUMN_BLOCK):
        yield matrix[:, start : start + COLUMN_BLOCK].astype(np.float64)


def squared_norm(matrix: Array) -> float:
    """Sum of the squared entries, in float64; `CACHE_BLOCK` entries are converted at a time."""
    flat = matrix.ravel(order="K")
    pieces = (flat[at : at + CACHE_BLOCK].astype(np.float64) for at in range(0, flat.size, CACHE_BLOCK))
    return sum(float(np.square(piece).sum()) for piece in pieces)


def cholesky(covariance: Array, floor: float) -> Array:
    """Lower triangular S `(n, n)` with `S S^T` the covariance `(n, n)` plus a floor on its diagonal.

    floor: a share of the mean variance; ten times larger until rounding no longer leaves it indefinite.
    Raises UnsupportedLayer where the covariance holds NaN or Inf.
    """
    if not np.isfinite(covariance).all():
        raise UnsupportedLayer(
            "its inputs or outputs on the data hold NaN or Inf, or overflow when squared: "
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
    """The array times S `(n, n)` along one axis of size n."""
    return np.moveaxis(np.tensordot(array, root, (axis, 0)), -1, axis)


def solve_factor(array: Array, root: Array, axis: int, *, transposed: bool = False) -> Array:
    """The array times the inverse of S along one axis, or of S^T if `transposed`; S is lower triangular."""
    moved = np.moveaxis(array, axis, 0)
    flat = moved.reshape(len(moved), -1).astype(np.float64)
    solved = linalg.solve_triangular(root, flat, trans=0 if transposed else 1, lower=True, check_finite=False)
    return np.moveaxis(solved.reshape(moved.shape), 0, axis)
