"""Truncated matrix factorizations, each by the cheapest way that the accuracy asked for allows.

`svd` is the one entrance; the other functions are what it leaves in the hands of a factorization.
"""

from modelsurgeon.linalg.arrays import calm, cholesky, finite, mixed, normalised, square, unmixed
from modelsurgeon.linalg.backend import Backend, on
from modelsurgeon.linalg.truncated_svd import (
    ACCURACY,
    Truncation,
    directions,
    leading,
    principal,
    singular_values,
    svd,
    truncated,
)
from modelsurgeon.linalg.vbmf import evbmf

__all__ = [
    "ACCURACY",
    "Backend",
    "Truncation",
    "calm",
    "cholesky",
    "directions",
    "evbmf",
    "finite",
    "leading",
    "mixed",
    "normalised",
    "on",
    "principal",
    "singular_values",
    "square",
    "svd",
    "truncated",
    "unmixed",
]
