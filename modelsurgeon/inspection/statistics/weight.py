"""Statistics of one weight tensor: values, channels, spectrum and scale."""

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
    """A tensor as a layer uses it: dequantized, transposed and cast.

    role: "weight", "bias", "scale", "variance", and so on. dtype: of the stored tensor. linear: the tensor as
    a `Layer`; None where it isn't the weight of a linear layer. size: of a convolution's input map; None
    where the model leaves it open. scaled: whether the values are the real ones, not integers whose scale is
    applied later.
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
    """Statistics of one weight tensor.

    fan: fan in and fan out; None where its scale isn't known. at_bounds: share of values that equal the
    smallest or the largest. channels: only for linear layers. spectrum: only without NaN and Inf. operator:
    only for convolutions of more than one tap with a known map.
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
        """Standard deviation over that of He's initialization, sqrt(2 / fan in) (He et al., 2015)."""
        return self._std_over(sqrt(2 / self.fan[0])) if self.fan else None

    @property
    def xavier(self) -> float | None:
        """Standard deviation over sqrt(2 / (fan in + fan out)) (Glorot and Bengio, 2010)."""
        return self._std_over(sqrt(2 / sum(self.fan))) if self.fan else None

    def _std_over(self, reference: float) -> float | None:
        return None if self.spread.std is None else self.spread.std / reference

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


def measure_weight(tensor: WeightInUse) -> Weight:
    """Statistics of one tensor. Memory: a few blocks, and a Gram matrix of its shorter side."""
    found, layer = spread(tensor.array), tensor.linear
    is_finite = layer is not None and bool(found.count) and found.finite == found.count
    return Weight(
        layer=tensor.layer,
        op=tensor.op,
        role=tensor.role,
        dtype=tensor.dtype,
        shape=tensor.array.shape,
        spread=found,
        at_bounds=_at_bounds(tensor.array, found),
        fan=_fan(layer) if layer is not None and layer.weight.size and tensor.scaled else None,
        channels=channels(layer) if layer is not None else None,
        spectrum=spectrum(layer) if layer is not None and is_finite else None,
        operator=_operator(layer, tensor.size) if layer is not None and is_finite else None,
    )


def _fan(layer: Layer) -> tuple[int, int]:
    taps = prod(layer.kernel)
    return layer.weight.shape[1] * taps, layer.out_channels // layer.groups * taps


def _operator(layer: Layer, size: Sequence[int] | None) -> OperatorNorm | None:
    """The operator norm of a convolution; None for one tap, where it is that of the weight matrix."""
    if size is None or layer.is_pointwise or not all(size):
        return None
    return operator_norm(layer, size)


def _at_bounds(array: Array, found: Spread) -> float:
    """Share of values that equal the smallest or the largest one."""
    if not found.finite or found.low == found.high:
        return 0.0
    hits = (np.count_nonzero((block == found.low) | (block == found.high)) for block in blocks(array))
    return sum(map(int, hits)) / found.count
