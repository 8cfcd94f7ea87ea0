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
        return cls(count=rows.shape[1], mean=rows.mean(axis=1), var=rows.var(axis=1))

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Whether means and variances are finite in a dtype."""
        with np.errstate(over="ignore", invalid="ignore"):
            made = [np.isfinite(part.astype(dtype)).all() for part in (self.mean, self.var)]
        return all(made)

    def with_more(self, other: ChannelStatistics) -> ChannelStatistics:
        """Statistics of the values of both."""
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        return ChannelStatistics(
            count=count,
            mean=self.mean + share * difference,
            var=(1 - share) * self.var + share * other.var + share * (1 - share) * difference**2,
        )
