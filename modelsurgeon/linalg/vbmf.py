"""A rank from the singular values alone: empirical variational Bayesian matrix factorization.

A matrix is taken for a low-rank signal under white noise of unknown strength. The evidence has an analytic
optimum: a singular value is signal where it is above a threshold, and the threshold follows from the noise
variance that minimises the free energy in one dimension.
It knows neither budget nor data, and trained weights are no signal under white noise: it is an offer.
Source: Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic solution of fully-observed variational
Bayesian matrix factorization", JMLR 14, 2013, theorem 2 and corollary 1.
"""

from __future__ import annotations

from math import ceil, log

import numpy as np

from modelsurgeon.layers import Array

GRID_POINTS = 200  # noise variances tried, spread evenly in their logarithm; the best is then refined
REFINEMENTS = 3  # times
MIN_VARIANCE = 1e-24  # of the largest squared singular value: below it is rounding


def evbmf(sigma: Array, columns: int) -> int:
    """How many of an (m, n) matrix's singular values are signal, 0 to min(m, n).

    sigma: all of them, `(min(m, n),)`, largest first. columns: the longer side, max(m, n).
    """
    square = np.square(np.asarray(sigma, np.float64))
    if not square.size or square[0] == 0:
        return 0
    square = np.maximum(square / square[0], MIN_VARIANCE)
    edge = threshold(len(square) / columns)
    variance = _noise(square, columns, edge)
    return int((square > columns * variance * edge).sum())


def threshold(alpha: float) -> float:
    """The smallest signal, `sigma^2 / (columns * variance)`, that is told from noise; alpha: rows / columns.

    The root of `phi(t) + phi(t / alpha)`, phi(z) = log(1 + z) / z - 1/2, found by bisection.
    """
    low, high = 1e-9, 3.0
    for _ in range(80):
        tau = (low + high) / 2
        low, high = (tau, high) if _phi(tau) + _phi(tau / alpha) > 0 else (low, tau)
    return (1 + tau) * (1 + alpha / tau)


def _phi(z: float) -> float:
    return log(1 + z) / z - 0.5


def _noise(square: Array, columns: int, edge: float) -> float:
    """The noise variance of least free energy, within the bounds of theorem 2."""
    rows = len(square)
    alpha = rows / columns
    most = min(ceil(rows / (1 + alpha)) - 1, rows - 1)  # signals, in any case
    high = float(square.sum()) / (rows * columns)
    low = max(float(square[most]) / (columns * edge), float(square[most:].mean()) / columns)
    low = min(max(low, MIN_VARIANCE), high)
    for _ in range(REFINEMENTS):
        tried = np.geomspace(low, high, GRID_POINTS)
        best = int(np.argmin([_free_energy(square / (columns * v), alpha, edge) for v in tried]))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, GRID_POINTS - 1)]
    return float(tried[best])


def _free_energy(x: Array, alpha: float, edge: float) -> float:
    """Free energy of squared singular values in units of the noise's, up to a constant."""
    signal = x[x > edge]
    shifted = signal - (1 + alpha)
    tau = (shifted + np.sqrt(np.square(shifted) - 4 * alpha)) / 2
    gained = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float((x - np.log(x)).sum() + gained.sum())
