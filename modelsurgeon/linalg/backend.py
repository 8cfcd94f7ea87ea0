"""The device that factorizes large matrices: numpy and LAPACK, unless `use_backend` sets another.

A backend's arrays support `@`, `.T`, `+`, `-`, slices and `len`, as those of numpy and torch do; what the two
spell differently is a method of the backend. So the algorithms are written once, and none imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from scipy import linalg

from modelsurgeon.layers import Array
from modelsurgeon.linalg.arrays import single_blas_thread

SUBSET_DIVISOR = 4  # up to a quarter of all eigenvectors are computed faster alone than with all others


class Backend(Protocol):
    """Arrays of one device and their factorizations. `least`: entries below which the host is faster."""

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
        """The `rank` largest eigenvalues of an (m, m) matrix, descending, in numpy; vectors `(m, rank)`."""

    def eigenvalues(self, symmetric: Any) -> Array:  # noqa: ANN401
        """All eigenvalues `(m,)` of an (m, m) matrix, descending, in numpy."""


class Host:
    """The default backend: numpy and LAPACK."""

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
        """Largest eigenpairs: LAPACK's evr (relatively robust representations) for few, evd for more.

        For clustered eigenvalues evr may fail, or find fewer than asked for: then evd computes all.
        """
        with single_blas_thread(len(symmetric)):
            values, vectors = _leading(symmetric, rank)
        return values[::-1][:rank], np.ascontiguousarray(vectors[:, ::-1][:, :rank])

    def eigenvalues(self, symmetric: Array) -> Array:
        """All eigenvalues, descending."""
        with single_blas_thread(len(symmetric)):
            return np.asarray(linalg.eigvalsh(symmetric, check_finite=False)[::-1])


def _leading(symmetric: Array, rank: int) -> tuple[Array, Array]:
    """At least `rank` of the largest eigenvalues of an (m, m) matrix, ascending, and their vectors."""
    m = len(symmetric)
    if rank * SUBSET_DIVISOR <= m:
        with suppress(linalg.LinAlgError):
            values, vectors = linalg.eigh(
                symmetric, subset_by_index=(m - rank, m - 1), driver="evr", check_finite=False
            )
            if vectors.shape[1] == rank and np.isfinite(vectors).all():
                return values, vectors
    values, vectors = linalg.eigh(symmetric, driver="evd", check_finite=False)
    return values, vectors


HOST = Host()
_current: ContextVar[Backend] = ContextVar("backend", default=HOST)


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Factorize large matrices by `backend` inside the `with` block."""
    token = _current.set(backend)
    try:
        yield
    finally:
        _current.reset(token)


def backend_for(matrix: Array) -> Backend:
    """The backend in use, or the host where the matrix is too small to be worth a transfer."""
    backend = _current.get()
    return backend if matrix.size >= backend.least else HOST
