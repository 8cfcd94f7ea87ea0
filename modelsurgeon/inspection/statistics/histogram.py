"""Histograms with bins of equal relative width, for percentiles of a stream in fixed memory.

A bin holds the float32 numbers that agree in sign, exponent and the first 6 bits of the mantissa, so that a
percentile is within 1 % of its exact value. Histograms add up. Bins of equal relative width are the idea of
DDSketch (Masson, Rim and Lee, 2019, arXiv:1908.10693); here the leading bits of the format are the bin.
"""

from __future__ import annotations

import numpy as np

from modelsurgeon.layers import Array

KEPT_BITS = 15  # bits: sign, exponent, and 6 of the mantissa
DROPPED_BITS = 32 - KEPT_BITS
BIN_COUNT = 2**KEPT_BITS
MAGNITUDE_BINS = BIN_COUNT // 2  # bins of either sign, the smallest magnitude first
INFINITE_BIN = 255 << (KEPT_BITS - 9)  # the first bin that holds Inf or NaN


def histogram(array: Array) -> Array:
    """The number of elements in each bin, `(BIN_COUNT,)`; NaN and Inf have bins of their own.

    Elements are rounded to float32.
    """
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32)
    return np.bincount(bits >> DROPPED_BITS, minlength=BIN_COUNT)


def percentile(counts: Array, percent: float) -> float | None:
    """The percentile of the finite elements; None where there are none."""
    ordered = _ordered_counts(counts)
    total = int(ordered.sum())
    if not total:
        return None
    index = int(np.searchsorted(np.cumsum(ordered), max(1.0, percent / 100 * total)))
    return (
        _bin_center(index - INFINITE_BIN) if index >= INFINITE_BIN else -_bin_center(INFINITE_BIN - 1 - index)
    )


def share_below(counts: Array, magnitude: float) -> float:
    """Share of the finite, non-zero numbers that are smaller than this in magnitude, a power of two."""
    sizes = counts[:MAGNITUDE_BINS] + counts[MAGNITUDE_BINS:]
    bound = int(np.float32(magnitude).view(np.uint32)) >> DROPPED_BITS
    whole = int(sizes[1:INFINITE_BIN].sum())
    return int(sizes[1:bound].sum()) / whole if whole else 0.0


def _ordered_counts(counts: Array) -> Array:
    """The counts of finite numbers, from the most negative up."""
    negative, positive = counts[MAGNITUDE_BINS : MAGNITUDE_BINS + INFINITE_BIN], counts[:INFINITE_BIN]
    return np.concatenate([negative[::-1], positive])


def _bin_center(number: int) -> float:
    """The number in the middle of a bin; 0 for the first one."""
    if not number:
        return 0.0
    return float(np.uint32((number << DROPPED_BITS) | (1 << (DROPPED_BITS - 1))).view(np.float32))
