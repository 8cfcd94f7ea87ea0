"""Shrinkage of a covariance that is estimated from few rows."""

from __future__ import annotations

import numpy as np

from modelsurgeon.layers import Array

MAX_SHRINKAGE = 0.95  # of a covariance that is taken to be chance


def effective_rows(samples: int, rows: int) -> float:
    """The number of independent rows that rows of so many samples are worth.

    The rows of one sample are correlated: they count for more than one row, and for fewer than all.
    """
    return float((samples * max(samples, rows)) ** 0.5)


def shrinkage(covariance: Array, rows: float) -> float:
    """Weight of the identity in the shrunk estimate of a covariance `(n, n)` from so many rows, as a ratio.

    Oracle approximating shrinkage (Chen, Wiesel, Eldar and Hero, 2010, arXiv:0907.4698).
    """
    n = len(covariance)
    total, squares = float(np.trace(covariance)) ** 2, float(np.square(covariance).sum())
    spread = squares - total / n
    if n == 1 or spread <= 0:
        return 0.0
    share = ((1 - 2 / n) * squares + total) / ((rows + 1 - 2 / n) * spread)
    share = min(share, MAX_SHRINKAGE)
    return share / (1 - share)
