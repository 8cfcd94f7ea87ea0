"""Mean and variance of each channel over samples that come one batch at a time, in float64.

Source of the merge: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelsurgeon.layers.layer import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelStatistics:
    """count: values seen per channel; mean, var: `(channels,)`, var that of the whole population."""

    count: int
    mean: Array
    var: Array

    @classmethod
    def of(cls, x: Array) -> ChannelStatistics:
        """Statistics of one batch `(samples, channels, *spatial)`."""
        rows = np.moveaxis(np.asarray(x, np.float64), 1, 0).reshape(x.shape[1], -1)
        return cls(count=rows.shape[1], mean=rows.mean(axis=1), var=rows.var(axis=1))

    def with_more(self, other: ChannelStatistics) -> ChannelStatistics:
        """Statistics of both together, as if all had been seen at once."""
        count = self.count + other.count
        share = other.count / count
        apart = other.mean - self.mean
        return ChannelStatistics(
            count=count,
            mean=self.mean + share * apart,
            var=(1 - share) * self.var + share * other.var + share * (1 - share) * apart**2,
        )
