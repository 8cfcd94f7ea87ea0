"""A rank from the singular values alone: empirical variational Bayesian matrix factorization.

The model is a low-rank matrix plus white noise of unknown variance. The evidence has an analytic optimum: a
singular value is signal where it is above a threshold, which follows from the noise variance that minimizes
the free energy, a search in one dimension. It uses neither budget nor data, and trained weights are no
low-rank matrix plus white noise: take the rank as a suggestion.
Source: Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic solution of fully-observed variational
Bayesian matrix factorization", JMLR 14, 2013, theorem 2 and corollary 1.
"""

from __future__ import annotations

from math import ceil, log

import numpy as np

from modelsurgeon.layers import Array

GRID_POINTS = 200  # noise variances tried, evenly spaced in their logarithm
GRID_REFINEMENTS = 3  # grids, each between the neighbors of the best point before
MIN_VARIANCE = 1e-24  # of the largest squared singular value: below it is rounding


def evbmf(sigma: Array, columns: int) -> int:
    """Rank of an (m, n) matrix under white noise: how many singular values are signal, 0 to min(m, n).

    sigma: all singular values, `(min(m, n),)`, descending. columns: the longer side, max(m, n).
    """
    square = np.square(np.asarray(sigma, np.float64))
    if not square.size or square[0] == 0:
        return 0
    square = np.maximum(square / square[0], MIN_VARIANCE)
    edge = threshold(len(square) / columns)
    variance = _noise_variance(square, columns, edge)
    return int((square > columns * variance * edge).sum())


def threshold(alpha: float) -> float:
    """The least `sigma^2 / (columns * variance)` that counts as signal; alpha: rows / columns, at most 1.

    It follows from the root of `phi(t) + phi(t / alpha)`, phi(z) = log(1 + z) / z - 1/2, found by bisection.
    """
    low, high = 1e-9, 3.0
    for _ in range(80):
        tau = (low + high) / 2
        low, high = (tau, high) if _phi(tau) + _phi(tau / alpha) > 0 else (low, tau)
    return (1 + tau) * (1 + alpha / tau)


def _phi(z: float) -> float:
    return log(1 + z) / z - 0.5


def _noise_variance(square: Array, columns: int, edge: float) -> float:
    """The noise variance of least free energy, within the bounds of theorem 2.

    square: squared singular values, relative to the largest; edge: `threshold` of the matrix's shape.
    """
    rows = len(square)
    alpha = rows / columns
    max_signals = min(ceil(rows / (1 + alpha)) - 1, rows - 1)  # an upper bound
    high = float(square.sum()) / (rows * columns)
    low = max(float(square[max_signals]) / (columns * edge), float(square[max_signals:].mean()) / columns)
    low = min(max(low, MIN_VARIANCE), high)
    for _ in range(GRID_REFINEMENTS):
        tried = np.geomspace(low, high, GRID_POINTS)
        best = int(np.argmin([_free_energy(square / (columns * v), alpha, edge) for v in tried]))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, GRID_POINTS - 1)]
    return float(tried[best])


def _free_energy(x: Array, alpha: float, edge: float) -> float:
    """Free energy up to a constant; x: squared singular values over `columns * variance`."""
    signal = x[x > edge]
    shifted = signal - (1 + alpha)
    tau = (shifted + np.sqrt(np.square(shifted) - 4 * alpha)) / 2
    gained = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float((x - np.log(x)).sum() + gained.sum())
