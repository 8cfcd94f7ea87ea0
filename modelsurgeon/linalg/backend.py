"""Where large matrices are worked on: numpy and LAPACK here, unless a door has put another backend in place.

A backend's arrays know `@`, `.T`, `+`, `-`, slices and `len`, as those of numpy and torch do; the few things
that the two spell differently are its methods. So the algorithms are written once, and none imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from scipy import linalg

from modelsurgeon.layers import Array
from modelsurgeon.linalg.arrays import single_blas_thread

SUBSET_SHARE = 4  # a quarter of all eigenvectors and fewer are had sooner one by one than all together


class Backend(Protocol):
    """One device's way to hold and factorize arrays. `least`: entries below which the host is quicker."""

    least: int

    def put(self, array: Array) -> Any:  # noqa: ANN401 - an array of the device
        """A numpy array on the device, in its own dtype."""

    def take(self, array: Any) -> Array:  # noqa: ANN401
        """An array of the device as a numpy array."""

    def double(self, array: Any) -> Any:  # noqa: ANN401
        """The same numbers in float64."""

    def orthonormal(self, columns: Any) -> Any:  # noqa: ANN401
        """An orthonormal basis `(m, k)` of an (m, k) matrix's columns, k <= m."""

    def top(self, symmetric: Any, rank: int) -> tuple[Array, Any]:  # noqa: ANN401
        """The `rank` largest eigenvalues, largest first and in numpy, and their vectors `(m, rank)`."""

    def eigenvalues(self, symmetric: Any) -> Array:  # noqa: ANN401
        """All eigenvalues, largest first, in numpy."""


class Host:
    """numpy and LAPACK."""

    least = 0

    def put(self, array: Array) -> Array:
        """The array itself."""
        return array

    def take(self, array: Array) -> Array:
        """The array itself."""
        return array

    def double(self, array: Array) -> Array:
        """The same numbers in float64."""
        return array.astype(np.float64, copy=False)

    def orthonormal(self, columns: Array) -> Array:
        """Q of a Householder QR."""
        with single_blas_thread(columns.shape[1]):
            return np.asarray(linalg.qr(columns, mode="economic", check_finite=False)[0])

    def top(self, symmetric: Array, rank: int) -> tuple[Array, Array]:
        """By relatively robust representations for a few of many, by divide and conquer for more."""
        m = len(symmetric)
        few = rank * SUBSET_SHARE <= m
        with single_blas_thread(m):
            values, vectors = linalg.eigh(
                symmetric,
                subset_by_index=(m - rank, m - 1) if few else None,
                driver="evr" if few else "evd",
                check_finite=False,
            )
        return values[::-1][:rank], np.ascontiguousarray(vectors[:, ::-1][:, :rank])

    def eigenvalues(self, symmetric: Array) -> Array:
        """All eigenvalues, largest first."""
        with single_blas_thread(len(symmetric)):
            return np.asarray(linalg.eigvalsh(symmetric, check_finite=False)[::-1])


HOST = Host()
_current: ContextVar[Backend] = ContextVar("backend", default=HOST)


@contextmanager
def on(backend: Backend) -> Iterator[None]:
    """Large matrices are factorized by `backend` while this lasts."""
    token = _current.set(backend)
    try:
        yield
    finally:
        _current.reset(token)


def backend_for(matrix: Array) -> Backend:
    """The backend in place, or the host where the matrix is too small to be sent away."""
    backend = _current.get()
    return backend if matrix.size >= backend.least else HOST
