"""Truncated matrix factorizations, each by the cheapest way that the accuracy asked for allows.

`svd` is the one entrance; the other functions are what it leaves in the hands of a factorization.
"""

from modelsurgeon.linalg.arrays import (
    cholesky,
    normalised,
    require_finite,
    single_blas_thread,
    solve_factor,
    squared_norm,
    times_factor,
)
from modelsurgeon.linalg.backend import Backend, on
from modelsurgeon.linalg.truncated_svd import (
    ACCURACY,
    Truncation,
    leading_subspace,
    singular_values,
    singular_vectors,
    svd,
    truncated,
    truncated_exact,
)
from modelsurgeon.linalg.vbmf import evbmf

__all__ = [
    "ACCURACY",
    "Backend",
    "Truncation",
    "cholesky",
    "evbmf",
    "leading_subspace",
    "normalised",
    "on",
    "require_finite",
    "single_blas_thread",
    "singular_values",
    "singular_vectors",
    "solve_factor",
    "squared_norm",
    "svd",
    "times_factor",
    "truncated",
    "truncated_exact",
]
