"""Statistics of one activation over data, accumulated one batch at a time in fixed memory."""

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
FLOAT16_MIN_NORMAL = 2.0**-14  # the smallest normal number in float16: smaller ones lose digits


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of a non-linearity's output; None: unbounded. margin: distance that counts as at a bound."""

    low: float | None
    high: float | None
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ActivationPlace:
    """An activation and the layer that produces it. axis: of its channels; None where it has none."""

    layer: str
    op: str
    dtype: str
    axis: int | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True, kw_only=True)
class Activation:
    """Statistics of one activation over all batches. shape: of the last batch.

    percentiles: by per cent, each within 1 % of its exact value. at_low, at_high: shares of values at the
    bounds of the non-linearity; None where it has none. overflow: share of values above the float16 maximum.
    subnormal: share of non-zero values that are subnormal in float16. dead: channels that were always 0.
    constant: channels that were always the same other number. seen: number of values of each channel.
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
    """Running sums of one activation. over: values above the float16 maximum. lows, highs: per channel."""

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
        """Add the activation of one batch."""
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
        others = tuple(other for other in range(array.ndim) if other != axis % array.ndim)
        lows, highs = array.min(axis=others), array.max(axis=others)
        if self.lows is not None and self.highs is not None and len(self.lows) == len(lows):
            lows, highs = np.minimum(lows, self.lows), np.maximum(highs, self.highs)
        self.lows, self.highs = lows, highs

    def result(self) -> Activation:
        """The statistics of all batches that were added."""
        lows = np.zeros(0) if self.lows is None else self.lows
        is_constant = lows == (lows if self.highs is None else self.highs)
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
            dead=tuple(np.flatnonzero(is_constant & (lows == 0)).tolist()),
            constant=tuple(np.flatnonzero(is_constant & (lows != 0)).tolist()),
        )

    def _percentile(self, percent: float) -> float | None:
        """The percentile, clipped to the range that was seen: a bin may reach beyond it."""
        found = percentile(self.counts, percent)
        return None if found is None else min(max(found, self.spread.low), self.spread.high)
