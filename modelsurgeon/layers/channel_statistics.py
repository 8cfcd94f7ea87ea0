"""Mean and variance of each channel, accumulated batch by batch in float64.

Source of the merge: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelsurgeon.layers.layer import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelStatistics:
    """Statistics of channels. count: values per channel. mean, var: `(channels,)`, var over count values."""

    count: int
    mean: Array
    var: Array

    @classmethod
    def of(cls, x: Array) -> ChannelStatistics:
        """Statistics of one batch `(samples, channels, *spatial)`."""
        rows = np.moveaxis(np.asarray(x, np.float64), 1, 0).reshape(x.shape[1], -1)
        with np.errstate(over="ignore", invalid="ignore"):  # a net may overflow on its samples
            return cls(count=rows.shape[1], mean=rows.mean(axis=1), var=rows.var(axis=1))

    def unusable_reason(self, *dtypes: np.dtype[Any]) -> str | None:
        """Why a norm with parameters of these dtypes can't take the statistics, or None where it can."""
        if self.count < 2:
            return "the samples give it fewer than two values per channel"
        with np.errstate(over="ignore", invalid="ignore"):
            lost = [dtype for part in (self.mean, self.var) for dtype in dtypes if not _fits(part, dtype)]
        return f"its statistics aren't finite in {lost[0]}" if lost else None

    def with_more(self, other: ChannelStatistics) -> ChannelStatistics:
        """Statistics of the values of both."""
        count = self.count + other.count
        share = other.count / count
        with np.errstate(over="ignore", invalid="ignore"):
            difference = other.mean - self.mean
            mean = self.mean + share * difference
            var = (1 - share) * self.var + share * other.var + share * (1 - share) * difference**2
        return ChannelStatistics(count=count, mean=mean, var=var)


def _fits(values: Array, dtype: np.dtype[Any]) -> bool:
    return bool(np.isfinite(values.astype(dtype)).all())
