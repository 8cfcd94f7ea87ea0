"""Batch norm as numbers, and how it is absorbed into the linear layer before or after it.

At inference batch norm is one gain and one offset per channel,

    y = scale * (x - mean) / sqrt(var + epsilon) + shift = gain * x + offset.

Behind a layer it scales the layer's outputs: weight * gain, bias * gain + offset. In front of one it scales
its inputs, and the offset becomes a bias; padding puts zeros where the offset ought to be, so with an offset
that is exact only where nothing is padded. All is computed in float64 and stored in the weight's dtype.

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
    """Scale, shift and the running statistics, each `(channels,)`; epsilon is added to the variance."""

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
        """What each channel is multiplied by, float64; not finite where the variance is broken."""
        with np.errstate(invalid="ignore", divide="ignore"):
            gain: Array = _wide(self.scale) / np.sqrt(_wide(self.var) + self.epsilon)
        return gain

    @property
    def offset(self) -> Array:
        """What is added to each channel after the gain, float64."""
        with np.errstate(invalid="ignore"):
            offset: Array = _wide(self.shift) - _wide(self.mean) * self.gain
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
    """y = gain * x + offset, each `(channels,)` and float64."""

    gain: Array
    offset: Array

    def of_constant(self, value: float) -> float:
        """What a map that holds `value` everywhere becomes. Raises UnsupportedLayer if it isn't one value."""
        return _the_one(self.gain * value + self.offset)

    def before_constant(self, value: float) -> float:
        """The value that becomes `value` in every channel. Raises UnsupportedLayer where there isn't one."""
        if not self.gain.all():
            raise UnsupportedLayer("padding lies between, and a channel's gain is 0")
        return _the_one((value - self.offset) / self.gain)


def behind(layer: Layer, affine: Affine) -> Layer:
    """The layer and the affine behind it, as one layer. Raises UnsupportedLayer."""
    _check_channels(affine, layer.out_channels, "gives")
    axes = (slice(None), *(None,) * (layer.weight.ndim - 1))
    weight = _wide(layer.weight) * affine.gain[axes]
    return _stored(layer, weight, _bias(layer) * affine.gain + affine.offset)


def in_front(layer: Layer, affine: Affine) -> Layer:
    """The affine and the layer behind it, as one layer. Raises UnsupportedLayer, as padding makes it."""
    _check_channels(affine, layer.in_channels, "takes")
    if affine.offset.any() and not _covers_evenly(layer):
        raise UnsupportedLayer(
            "the layer behind it pads with zeros, where the offset would have to be"
            if not layer.transposed
            else "the layer behind it is transposed: not every output is a sum over all taps"
        )
    kernel = (1,) * len(layer.kernel)
    per_group = (layer.groups, 1, layer.in_channels // layer.groups, *kernel)
    blocks = _wide(layer.weight).reshape(layer.groups, -1, *layer.weight.shape[1:])
    weight = (blocks * affine.gain.reshape(per_group)).reshape(layer.weight.shape)
    added = (blocks * affine.offset.reshape(per_group)).reshape(layer.out_channels, -1).sum(axis=1)
    return _stored(layer, weight, _bias(layer) + added)


def _covers_evenly(layer: Layer) -> bool:
    """Whether a constant input gives a constant output: every output sums over all taps of real inputs."""
    if layer.transposed:
        return all(k == 1 and s == 1 for k, s in zip(layer.kernel, layer.stride, strict=True))
    return not any(begin or end for begin, end in layer.padding)


def _check_channels(affine: Affine, channels: int, verb: str) -> None:
    if affine.gain.size != channels:
        raise UnsupportedLayer(f"it has {affine.gain.size} channels, the layer {verb} {channels}")


def _stored(layer: Layer, weight: Array, bias: Array) -> Layer:
    """The layer with these numbers in its own dtype, without a bias where it had none and needs none."""
    dtype = layer.weight.dtype
    with np.errstate(over="ignore"):
        weight, bias = weight.astype(dtype), bias.astype(dtype)
    if not (np.isfinite(_wide(weight)).all() and np.isfinite(_wide(bias)).all()):
        raise UnsupportedLayer(f"the folded weight isn't finite in {dtype}")
    return replace(layer, weight=weight, bias=bias if layer.bias is not None or bias.any() else None)


def _bias(layer: Layer) -> Array:
    return np.zeros(layer.out_channels) if layer.bias is None else _wide(layer.bias)


def _the_one(values: Array) -> float:
    if not np.ptp(values) <= np.finfo(np.float32).eps * np.abs(values).max(initial=0.0):
        raise UnsupportedLayer("constant padding lies between, which would differ from channel to channel")
    return float(values[0])


def _wide(array: Array) -> Array:
    return np.asarray(array, np.float64)
