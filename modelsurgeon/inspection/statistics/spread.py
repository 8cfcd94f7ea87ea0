"""Count, range, moments, zeros, NaN and Inf of an array, computed block by block; spreads add up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelsurgeon.layers import Array

ELEMENT_BLOCK = 2**17  # elements converted to float64 at a time: few enough for the cache


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Counts of zeros, NaN and Inf among `count` numbers, with range and moments of the finite ones.

    low, high, mean: of the finite numbers; `low` > `high` where there are none. squares: the sum of their
    squared distances from the mean.
    """

    count: int = 0
    zeros: int = 0
    nan: int = 0
    inf: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    @property
    def finite(self) -> int:
        """The number of finite values."""
        return self.count - self.nan - self.inf

    @property
    def std(self) -> float | None:
        """Population standard deviation of the finite numbers; None where there are none."""
        return math.sqrt(self.squares / self.finite) if self.finite else None

    @property
    def peak(self) -> float:
        """Largest magnitude of a finite number; 0 where there are none."""
        return max(-self.low, self.high, 0.0)

    @property
    def sparsity(self) -> float:
        """Share of exact zeros."""
        return self.zeros / self.count if self.count else 0.0

    def __add__(self, other: Spread) -> Spread:
        """The spread of both together. Source: Chan, Golub and LeVeque, 1979, for the moments."""
        finite = self.finite + other.finite
        share = other.finite / finite if finite else 0.0
        mean_gap = other.mean - self.mean
        return Spread(
            count=self.count + other.count,
            zeros=self.zeros + other.zeros,
            nan=self.nan + other.nan,
            inf=self.inf + other.inf,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            mean=self.mean + share * mean_gap,
            squares=self.squares + other.squares + mean_gap * mean_gap * share * self.finite,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values; those that need a finite number are None where there is none."""
        known = bool(self.finite)
        return {
            "elements": self.count,
            "min": self.low if known else None,
            "max": self.high if known else None,
            "mean": self.mean if known else None,
            "std": self.std,
            "abs_max": self.peak if known else None,
            "zeros": self.zeros,
            "sparsity": self.sparsity,
            "nan": self.nan,
            "inf": self.inf,
        }


def spread(array: Array) -> Spread:
    """The spread of all elements; the array isn't copied as a whole.

    >>> spread(np.array([1.0, 0.0, 2.0, np.nan])).as_dict()["mean"]
    1.0
    """
    if array.size and not any(array.strides):  # one number, broadcast
        return _repeated(float(array.flat[0]), array.size)
    total = Spread()
    for block in blocks(array):
        total += _block_spread(block)
    return total


def blocks(array: Array) -> Iterator[Array]:
    """All elements in float64, a block at a time, in memory order."""
    flat = array.ravel(order="K")
    for start in range(0, flat.size, ELEMENT_BLOCK):
        yield flat[start : start + ELEMENT_BLOCK].astype(np.float64)


def _block_spread(block: Array) -> Spread:
    is_finite = np.isfinite(block)
    finite = block if is_finite.all() else block[is_finite]
    if not finite.size:
        return Spread(count=block.size, nan=_count(np.isnan(block)), inf=_count(np.isinf(block)))
    mean = float(finite.mean())
    deviations = finite - mean
    return Spread(
        count=block.size,
        zeros=_count(finite == 0),
        nan=_count(np.isnan(block)) if finite.size < block.size else 0,
        inf=_count(np.isinf(block)) if finite.size < block.size else 0,
        low=float(finite.min()),
        high=float(finite.max()),
        mean=mean,
        squares=float(np.square(deviations).sum()),  # a dot product would start BLAS threads, which spin
    )


def _repeated(value: float, count: int) -> Spread:
    one = _block_spread(np.array([value]))
    return Spread(
        count=count, zeros=one.zeros * count, nan=one.nan * count, inf=one.inf * count,
        low=one.low, high=one.high, mean=one.mean,
    )  # fmt: skip


def _count(mask: Array) -> int:
    return int(np.count_nonzero(mask))
