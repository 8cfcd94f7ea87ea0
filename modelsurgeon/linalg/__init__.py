"""Truncated matrix factorizations, each computed by the cheapest method that meets the accuracy asked for.

`svd` returns a truncated SVD; the other functions are the parts that the factorizations need.
"""

from modelsurgeon.linalg.arrays import (
    VARIANCE_FLOOR,
    cholesky,
    normalized,
    require_finite,
    single_blas_thread,
    solve_factor,
    squared_norm,
    times_factor,
)
from modelsurgeon.linalg.backend import Backend, use_backend
from modelsurgeon.linalg.truncated_svd import (
    DEFAULT_ACCURACY,
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
    "DEFAULT_ACCURACY",
    "VARIANCE_FLOOR",
    "Backend",
    "Truncation",
    "cholesky",
    "evbmf",
    "leading_subspace",
    "normalized",
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
    "use_backend",
]
