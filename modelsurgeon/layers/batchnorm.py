"""Batch norm as arrays, and its folding into the linear layer before or after it.

At inference batch norm is one gain and one offset per channel,

    y = scale * (x - mean) / sqrt(var + epsilon) + shift = gain * x + offset.

After a layer it scales the layer's outputs: weight * gain, bias * gain + offset. Before a layer it scales the
inputs, and the offset becomes a bias. Zero padding lacks the offset, so folding a nonzero offset into the
next layer is exact only where that layer pads nothing. All is computed in float64 and stored in the weight's
dtype.

Source: Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.layer import Array, Layer


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm:
    """Scale, shift and running mean and variance, each `(channels,)`; epsilon is added to the variance."""

    scale: Array
    shift: Array
    mean: Array
    var: Array
    epsilon: float = 1e-5

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.mean.size)

    @property
    def gain(self) -> Array:
        """Factor of each channel, `(channels,)`, float64; NaN or inf where var + epsilon <= 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            gain: Array = _float64(self.scale) / np.sqrt(_float64(self.var) + self.epsilon)
        return gain

    @property
    def offset(self) -> Array:
        """Summand of each channel after the gain, `(channels,)`, float64."""
        with np.errstate(invalid="ignore"):
            offset: Array = _float64(self.shift) - _float64(self.mean) * self.gain
        return offset

    @property
    def affine(self) -> Affine:
        """Gain and offset. Raises UnsupportedLayer where one of them isn't finite."""
        gain, offset = self.gain, self.offset
        if not (np.isfinite(gain).all() and np.isfinite(offset).all()):
            raise UnsupportedLayer("its statistics are broken, some channels aren't finite: bn sanitize")
        return Affine(gain=gain, offset=offset)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """The affine map y = gain * x + offset; gain and offset are `(channels,)` and float64."""

    gain: Array
    offset: Array

    def of_constant(self, value: float) -> float:
        """The output for the constant input `value`. Raises UnsupportedLayer where it differs by channel."""
        return _single_value(self.gain * value + self.offset)

    def before_constant(self, value: float) -> float:
        """The constant input whose output is `value` in every channel. Raises UnsupportedLayer if none is."""
        if not self.gain.all():
            raise UnsupportedLayer("there is padding between them, and a channel's gain is 0")
        return _single_value((value - self.offset) / self.gain)


def fold_output_affine(layer: Layer, affine: Affine) -> Layer:
    """The layer with an affine map of its outputs folded in.

    Raises UnsupportedLayer where the channels differ or the folded numbers aren't finite in the layer's
    dtype.
    """
    _check_channels(affine, layer.out_channels, "gives")
    axes = (slice(None), *(None,) * (layer.weight.ndim - 1))
    weight = _float64(layer.weight) * affine.gain[axes]
    return _in_layer_dtype(layer, weight, _bias_or_zeros(layer) * affine.gain + affine.offset)


def fold_input_affine(layer: Layer, affine: Affine) -> Layer:
    """The layer with an affine map of its inputs folded in.

    Raises UnsupportedLayer where the channels differ, the layer pads (or is transposed, with a kernel or a
    stride) and the offset isn't 0, or the folded numbers aren't finite in the layer's dtype.
    """
    _check_channels(affine, layer.in_channels, "takes")
    if affine.offset.any() and not _covers_evenly(layer):
        raise UnsupportedLayer(
            "the layer behind it pads with zeros, which would have to be the offset"
            if not layer.transposed
            else "the layer behind it is transposed: not every output is a sum over all taps"
        )
    kernel = (1,) * len(layer.kernel)
    per_group = (layer.groups, 1, layer.in_channels // layer.groups, *kernel)
    blocks = _float64(layer.weight).reshape(layer.groups, -1, *layer.weight.shape[1:])
    weight = (blocks * affine.gain.reshape(per_group)).reshape(layer.weight.shape)
    added = (blocks * affine.offset.reshape(per_group)).reshape(layer.out_channels, -1).sum(axis=1)
    return _in_layer_dtype(layer, weight, _bias_or_zeros(layer) + added)


def _covers_evenly(layer: Layer) -> bool:
    """Whether a constant input gives a constant output: no output has a padded or missing tap."""
    if layer.transposed:
        return all(k == 1 and s == 1 for k, s in zip(layer.kernel, layer.stride, strict=True))
    return not any(begin or end for begin, end in layer.padding)


def _check_channels(affine: Affine, channels: int, verb: str) -> None:
    if affine.gain.size != channels:
        raise UnsupportedLayer(f"it has {affine.gain.size} channels, the layer {verb} {channels}")


def _in_layer_dtype(layer: Layer, weight: Array, bias: Array) -> Layer:
    """The layer with this weight and bias in its own dtype; no bias where it had none and all are 0."""
    dtype = layer.weight.dtype
    with np.errstate(over="ignore"):
        weight, bias = weight.astype(dtype), bias.astype(dtype)
    if not (np.isfinite(_float64(weight)).all() and np.isfinite(_float64(bias)).all()):
        raise UnsupportedLayer(f"the folded weight isn't finite in {dtype}")
    return replace(layer, weight=weight, bias=bias if layer.bias is not None or bias.any() else None)


def _bias_or_zeros(layer: Layer) -> Array:
    return np.zeros(layer.out_channels) if layer.bias is None else _float64(layer.bias)


def _single_value(values: Array) -> float:
    if not np.ptp(values) <= np.finfo(np.float32).eps * np.abs(values).max(initial=0.0):
        raise UnsupportedLayer(
            "there is constant padding between them, which would differ from channel to channel"
        )
    return float(values[0])


def _float64(array: Array) -> Array:
    return np.asarray(array, np.float64)
