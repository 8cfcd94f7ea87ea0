"""What an activation looks like over data, gathered one feed at a time in fixed memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelsurgeon.inspection.statistics.histogram import BIN_COUNT, histogram, percentile, share_below
from modelsurgeon.inspection.statistics.spread import Spread, spread
from modelsurgeon.layers import Array

PERCENTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
FLOAT16_MAX = 65504.0  # the largest number in float16
FLOAT16_MIN_NORMAL = 2.0**-14  # the smallest one in float16 that has all its digits


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a non-linearity can't pass; None where it can. margin: how close to it counts as being there."""

    low: float | None
    high: float | None
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ActivationPlace:
    """An activation and where it arises. axis: of its channels, None where it has none."""

    layer: str
    op: str
    dtype: str
    axis: int | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True, kw_only=True)
class Activation:
    """What one activation was over all feeds. shape: of the last one.

    percentiles: by per cent, off by less than 1 % of themselves. at_low, at_high: the shares at the bounds
    of the non-linearity; None where it has none. overflow: the share that float16 can't hold. subnormal: the
    share of non-zero numbers for which float16 lacks digits. dead: channels that were 0 throughout.
    constant: those that were another number throughout. seen: numbers of each channel.
    """

    place: ActivationPlace
    shape: tuple[int, ...]
    spread: Spread
    percentiles: Mapping[float, float | None]
    at_low: float | None
    at_high: float | None
    overflow: float
    subnormal: float
    channels: int
    seen: int
    dead: tuple[int, ...] = ()
    constant: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what isn't known is None."""
        return {
            "layer": self.place.layer,
            "op": self.place.op,
            "dtype": self.place.dtype,
            "shape": list(self.shape),
            **self.spread.as_dict(),
            "percentiles": {f"{percent:g}": value for percent, value in self.percentiles.items()},
            "at_low": self.at_low,
            "at_high": self.at_high,
            "fp16_overflow": self.overflow,
            "fp16_subnormal": self.subnormal,
            "channels": self.channels,
            "dead_channels": list(self.dead),
            "constant_channels": list(self.constant),
        }


@dataclass(kw_only=True)
class ActivationSums:
    """What one activation has been so far. lows, highs: of each channel."""

    place: ActivationPlace
    shape: tuple[int, ...] = ()
    spread: Spread = field(default_factory=Spread)
    counts: Array = field(default_factory=lambda: np.zeros(BIN_COUNT, np.int64))
    over: int = 0
    at_low: int = 0
    at_high: int = 0
    lows: Array | None = None
    highs: Array | None = None

    def add(self, array: Array) -> None:
        """Take in the activation of one feed."""
        self.shape = array.shape
        self.spread += spread(array)
        self.counts += histogram(array)
        self.over += int(np.count_nonzero(np.abs(array) > FLOAT16_MAX))
        if bounds := self.place.bounds:
            low, high, margin = bounds.low, bounds.high, bounds.margin
            self.at_low += 0 if low is None else int(np.count_nonzero(array <= low + margin))
            self.at_high += 0 if high is None else int(np.count_nonzero(array >= high - margin))
        self._add_channels(array)

    def _add_channels(self, array: Array) -> None:
        axis = self.place.axis
        if axis is None or array.ndim < 2 or not array.size:
            return
        others = tuple(each for each in range(array.ndim) if each != axis % array.ndim)
        lows, highs = array.min(axis=others), array.max(axis=others)
        if self.lows is not None and self.highs is not None and len(self.lows) == len(lows):
            lows, highs = np.minimum(lows, self.lows), np.maximum(highs, self.highs)
        self.lows, self.highs = lows, highs

    def result(self) -> Activation:
        """All of it."""
        lows = np.zeros(0) if self.lows is None else self.lows
        still = lows == (lows if self.highs is None else self.highs)
        count, bounds = max(1, self.spread.count), self.place.bounds or Bounds(low=None, high=None)
        return Activation(
            place=self.place,
            shape=self.shape,
            spread=self.spread,
            percentiles={percent: self._percentile(percent) for percent in PERCENTILES},
            at_low=None if bounds.low is None else self.at_low / count,
            at_high=None if bounds.high is None else self.at_high / count,
            overflow=self.over / count,
            subnormal=share_below(self.counts, FLOAT16_MIN_NORMAL),
            channels=len(lows),
            seen=self.spread.count // max(1, len(lows)),
            dead=tuple(np.flatnonzero(still & (lows == 0)).tolist()),
            constant=tuple(np.flatnonzero(still & (lows != 0)).tolist()),
        )

    def _percentile(self, percent: float) -> float | None:
        """Never outside of what was seen, though a bin may reach beyond."""
        found = percentile(self.counts, percent)
        return None if found is None else min(max(found, self.spread.low), self.spread.high)
