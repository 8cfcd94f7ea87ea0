"""The inverse of every factorization: the one layer that a chain equals.

Two convolutions in a row are one where, on every axis, one of them is neutral (one tap, stride 1, no
padding). All our chains are of this kind. Their weights then multiply like matrices over the channel between
them, and their kernels, being 1 on one side, multiply axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from math import gcd
from typing import Any

import numpy as np

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layer import Array, Layer


def compose(chain: Sequence[Layer]) -> Layer:
    """The one layer that `chain` equals, computed in float64 and returned in the first layer's dtype."""
    if not chain:
        raise UnsupportedLayer("the chain is empty: at least one layer is needed")
    for one, two in pairwise(chain):
        if one.out_channels != two.in_channels or len(one.kernel) != len(two.kernel):
            raise UnsupportedLayer(
                f"a layer of weight {one.weight.shape} feeds one of {two.weight.shape}: "
                "their channels and kernel axes must match"
            )
    wide = [_cast(layer, np.dtype(np.float64)) for layer in chain]
    return _cast(reduce(_join, wide), chain[0].weight.dtype)


def relative_error(layer: Layer, chain: Sequence[Layer]) -> float:
    """Relative error (Frobenius) of a chain's composed weight against the layer's; 0 for a zero weight."""
    original = layer.weight.astype(np.float64)
    scale = float(np.linalg.norm(original))
    return float(np.linalg.norm(original - compose(chain).weight)) / scale if scale else 0.0


def _join(one: Layer, two: Layer) -> Layer:
    groups = gcd(one.groups, two.groups)
    first, second = _stacked(one, groups), _stacked(two, groups)
    weight = _channels_first(_kernel_first(second) @ _kernel_first(first))
    return Layer(
        weight=weight.reshape(two.out_channels, -1, *weight.shape[3:]),
        bias=_bias(one, two),
        groups=groups,
        transposed=one.transposed or two.transposed,
        **_geometry(one, two),
    )


def _stacked(layer: Layer, groups: int) -> Array:
    """The weight as `(groups, out / groups, in / groups, *kernel)`; finer groups become blocks of zeros."""
    finer = layer.groups // groups
    shape = layer.weight.shape
    weight = layer.weight.reshape(groups, finer, -1, *shape[1:])
    if finer == 1:
        return weight[:, 0]
    blocks = np.zeros((groups, finer, weight.shape[2], finer, *shape[1:]))
    each = np.arange(finer)
    blocks[:, each, :, each] = np.moveaxis(weight, 1, 0)
    return blocks.reshape(groups, finer * weight.shape[2], finer * shape[1], *shape[2:])


def _kernel_first(weight: Array) -> Array:
    return np.moveaxis(weight, (1, 2), (-2, -1))


def _channels_first(weight: Array) -> Array:
    return np.moveaxis(weight, (-2, -1), (1, 2))


def _geometry(one: Layer, two: Layer) -> dict[str, Any]:
    """Per axis, the geometry of the layer that is not neutral there."""
    pairs = list(zip(_axes(one), _axes(two), strict=True))
    if any(_NEUTRAL not in pair for pair in pairs):
        raise UnsupportedLayer(
            "two layers of the chain both have a kernel, stride or padding on one axis: they aren't one layer"
        )
    merged = [b if a == _NEUTRAL else a for a, b in pairs]
    columns = list(zip(*merged, strict=True)) or [()] * 5
    names = ("stride", "padding", "dilation", "output_padding")
    return dict(zip(names, columns[1:], strict=True))


_NEUTRAL = (1, 1, (0, 0), 1, 0)


def _axes(layer: Layer) -> list[tuple[object, ...]]:
    """Per axis: taps, stride, padding, dilation (of no meaning for one tap), output padding."""
    dilation = [d if k > 1 else 1 for d, k in zip(layer.dilation, layer.kernel, strict=True)]
    values = (layer.kernel, layer.stride, layer.padding, dilation, layer.output_padding)
    return list(zip(*values, strict=True))


def _bias(one: Layer, two: Layer) -> Array | None:
    if one.bias is None:
        return two.bias
    if two.transposed or any(sum(p) for p in two.padding):
        raise UnsupportedLayer(
            "a bias before a padded layer: the chain differs at the border and isn't one layer"
        )
    taps = _stacked(two, 1)[0].reshape(two.out_channels, one.out_channels, -1).sum(axis=2)
    carried: Array = taps @ one.bias
    return carried if two.bias is None else carried + two.bias


def _cast(layer: Layer, dtype: np.dtype[np.generic]) -> Layer:
    bias = None if layer.bias is None else layer.bias.astype(dtype)
    return replace(layer, weight=layer.weight.astype(dtype), bias=bias)
