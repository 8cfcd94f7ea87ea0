"""What one weight tensor looks like: its numbers, its channels, its spectrum, and how it is scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from modelsurgeon.inspection.statistics.channels import ChannelFindings, channels
from modelsurgeon.inspection.statistics.conv_spectrum import OperatorNorm, operator_norm
from modelsurgeon.inspection.statistics.spectrum import Spectrum, spectrum
from modelsurgeon.inspection.statistics.spread import Spread, blocks, spread
from modelsurgeon.layers import Array, Layer


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightInUse:
    """A tensor as a layer uses it: dequantised, transposed and cast as it is on the way.

    role: what it is to the layer: "weight", "bias", "scale", "variance", and so on. dtype: in which it is
    stored. linear: the layer that it makes, None for what is no matrix. size: of the map that a convolution
    reads, None where the model leaves it open. scaled: whether the numbers are those that are meant, not
    whole ones whose scale is applied later.
    """

    layer: str
    op: str
    role: str
    dtype: str
    array: Array
    linear: Layer | None = None
    size: Sequence[int] | None = None
    scaled: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """What was measured of one tensor.

    fan: inputs and outputs that one number of it connects; None where its scale isn't known.

    at_bounds: the share of numbers that equal the smallest or the largest. channels: of linear layers;
    spectrum: of those without NaN and Inf; operator: of those that are convolutions of more than one tap.
    """

    layer: str
    op: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    spread: Spread
    at_bounds: float = 0.0
    fan: tuple[int, int] | None = None
    channels: ChannelFindings | None = None
    spectrum: Spectrum | None = None
    operator: OperatorNorm | None = None

    @property
    def he(self) -> float | None:
        """Standard deviation over that of He's initialisation, sqrt(2 / fan in) (He and others, 2015)."""
        return self._over(sqrt(2 / self.fan[0])) if self.fan else None

    @property
    def xavier(self) -> float | None:
        """Standard deviation over sqrt(2 / (fan in + fan out)) (Glorot and Bengio, 2010)."""
        return self._over(sqrt(2 / sum(self.fan))) if self.fan else None

    def _over(self, usual: float) -> float | None:
        return None if self.spread.std is None else self.spread.std / usual

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what isn't known is None."""
        parts = {"channels": self.channels, "spectrum": self.spectrum, "operator": self.operator}
        return {
            "layer": self.layer,
            "op": self.op,
            "role": self.role,
            "dtype": self.dtype,
            "shape": list(self.shape),
            **self.spread.as_dict(),
            "at_bounds": self.at_bounds,
            "fan_in": self.fan[0] if self.fan else None,
            "fan_out": self.fan[1] if self.fan else None,
            "std_over_he": self.he,
            "std_over_xavier": self.xavier,
            **{key: None if part is None else part.as_dict() for key, part in parts.items()},
        }


def weigh(held: WeightInUse) -> Weight:
    """All that is measured of one tensor. Memory: a few blocks, and a Gram matrix of its shorter side."""
    found, layer = spread(held.array), held.linear
    sound = layer is not None and bool(found.count) and found.finite == found.count
    return Weight(
        layer=held.layer,
        op=held.op,
        role=held.role,
        dtype=held.dtype,
        shape=held.array.shape,
        spread=found,
        at_bounds=_at_bounds(held.array, found),
        fan=_fan(layer) if layer is not None and layer.weight.size and held.scaled else None,
        channels=channels(layer) if layer is not None else None,
        spectrum=spectrum(layer) if layer is not None and sound else None,
        operator=_operator(layer, held.size) if layer is not None and sound else None,
    )


def _fan(layer: Layer) -> tuple[int, int]:
    taps = prod(layer.kernel)
    return layer.weight.shape[1] * taps, layer.out_channels // layer.groups * taps


def _operator(layer: Layer, size: Sequence[int] | None) -> OperatorNorm | None:
    """None for one tap: the matrix of the weight is the whole operator."""
    if size is None or layer.is_pointwise or not all(size):
        return None
    return operator_norm(layer, size)


def _at_bounds(array: Array, found: Spread) -> float:
    """Share of numbers that equal the smallest or the largest one."""
    if not found.finite or found.low == found.high:
        return 0.0
    hits = (np.count_nonzero((block == found.low) | (block == found.high)) for block in blocks(array))
    return sum(map(int, hits)) / found.count
