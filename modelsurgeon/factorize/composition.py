"""The inverse of every factorization: the one layer that equals a chain.

Two convolutions in a row are one where, on every axis, one of them is neutral: one tap, stride 1, no padding.
All chains of `METHODS` are of this kind. Their weights are then multiplied as matrices over the channels
between them, and the kernel on each axis is that of the layer that isn't neutral there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from math import gcd, inf, prod
from typing import Any

import numpy as np

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer


def compose(chain: Sequence[Layer]) -> Layer:
    """The one layer that equals `chain`, computed in float64 and returned in the first layer's dtype.

    Its weight is `(out of the last layer, in of the first / groups, *kernel)`; its groups are the greatest
    common divisor of the layers' groups. On each axis the kernel and geometry are those of the layer that
    isn't neutral there.
    Raises UnsupportedLayer for an empty chain, channels or kernel axes that don't match, two layers that
    aren't neutral on one axis, and a bias before a layer that pads or is transposed.
    """
    return _cast(_product(chain), chain[0].weight.dtype)


def relative_error(layer: Layer, chain: Sequence[Layer]) -> float:
    """Relative error of a chain: `||W - composed|| / ||W||`, Frobenius norms of weights.

    A ratio without unit, computed in float64; biases don't count. For a zero weight it is 0 or infinite.
    Raises UnsupportedLayer as `compose` does, and for a chain of another shape than the layer.
    """
    original, composed = layer.weight.astype(np.float64), compose(chain).weight
    if original.shape != composed.shape:
        raise UnsupportedLayer(
            f"the chain makes a weight {composed.shape}, the layer has {original.shape}: give one like it"
        )
    scale, error = float(np.linalg.norm(original)), float(np.linalg.norm(original - composed))
    if scale == 0:
        return inf if error else 0.0
    return error / scale


def norm_ratio(chain: Sequence[Layer]) -> float:
    """`sum ||term||^2 / ||sum of terms||^2` of a chain (Frobenius), without unit; 0 for a chain of zeros.

    A term is the weight of one path through the channels between the layers; the sum of all terms is the
    composed weight. The ratio is 1 for orthogonal terms, as those of an SVD, and far above 1 where terms
    cancel: rounding the factors to half precision or integers then has an error larger by the ratio's square
    root. Biases don't count. Raises UnsupportedLayer as `compose` does. On terms that cancel see Phan et al.,
    2020, arXiv:2008.05441.
    """
    whole = float(np.square(_product(chain).weight).sum())
    squares = [replace(link, weight=np.square(link.weight, dtype=np.float64), bias=None) for link in chain]
    return float(_product(squares).weight.sum()) / whole if whole else 0.0


def _product(chain: Sequence[Layer]) -> Layer:
    """The composed layer in float64. Raises UnsupportedLayer where there is none."""
    if not chain:
        raise UnsupportedLayer("the chain is empty: at least one layer is needed")
    for one, two in pairwise(chain):
        if one.out_channels != two.in_channels or len(one.kernel) != len(two.kernel):
            raise UnsupportedLayer(
                f"a layer of weight {one.weight.shape} feeds one of {two.weight.shape}: "
                "their channels and kernel axes must match"
            )
    return reduce(_compose_two, [_cast(layer, np.dtype(np.float64)) for layer in chain])


def _compose_two(one: Layer, two: Layer) -> Layer:
    """The composition of two layers, by blocks of the finer grouping, so that depthwise layers stay cheap."""
    if one.groups % two.groups and two.groups % one.groups:
        one = _with_fewer_groups(one, gcd(one.groups, two.groups))
    first, second = _group_blocks(one), _group_blocks(two)
    if two.groups >= one.groups:
        first = first.reshape(two.groups, -1, *first.shape[2:])
    else:
        second = _split_inputs(second, one.groups)
    weight = _channels_first(_kernel_first(second) @ _kernel_first(first))
    if one.groups > two.groups:
        weight = _merge_inputs(weight, two.groups)
    return Layer(
        weight=weight.reshape(two.out_channels, -1, *weight.shape[3:]),
        bias=_bias(one, two),
        groups=min(one.groups, two.groups),
        transposed=one.transposed or two.transposed,
        **_geometry(one, two),
    )


def _group_blocks(layer: Layer) -> Array:
    """The weight as `(groups, out / groups, in / groups, *kernel)`."""
    return layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])


def _split_inputs(blocks: Array, groups: int) -> Array:
    """`(g, out, in, *kernel)` as `(groups, out, in * g / groups, *kernel)`: finer blocks of inputs."""
    g, out, _, *kernel = blocks.shape
    cut = blocks.reshape(g, out, groups // g, -1, *kernel)
    return np.moveaxis(cut, 2, 1).reshape(groups, out, -1, *kernel)


def _merge_inputs(blocks: Array, groups: int) -> Array:
    """The inverse of `_split_inputs`: the blocks of each group joined along the inputs."""
    fine, out, into, *kernel = blocks.shape
    cut = blocks.reshape(groups, fine // groups, out, into, *kernel)
    return np.moveaxis(cut, 1, 2).reshape(groups, out, -1, *kernel)


def _with_fewer_groups(layer: Layer, groups: int) -> Layer:
    """The same layer with fewer groups: a block-diagonal weight with zeros between the finer blocks."""
    finer = layer.groups // groups
    shape = layer.weight.shape
    weight = layer.weight.reshape(groups, finer, -1, *shape[1:])
    blocks = np.zeros((groups, finer, weight.shape[2], finer, *shape[1:]))
    diagonal = np.arange(finer)
    blocks[:, diagonal, :, diagonal] = np.moveaxis(weight, 1, 0)
    return replace(
        layer, weight=blocks.reshape(len(layer.weight), finer * shape[1], *shape[2:]), groups=groups
    )


def _kernel_first(weight: Array) -> Array:
    return np.moveaxis(weight, (1, 2), (-2, -1))


def _channels_first(weight: Array) -> Array:
    return np.moveaxis(weight, (-2, -1), (1, 2))


def _geometry(one: Layer, two: Layer) -> dict[str, Any]:
    """Geometry of the composition: on each axis that of the layer that isn't neutral there."""
    pairs = list(zip(_axis_geometry(one), _axis_geometry(two), strict=True))
    if any(_NEUTRAL not in pair for pair in pairs):
        raise UnsupportedLayer(
            "two layers of the chain both have a kernel, stride or padding on one axis: they aren't one layer"
        )
    merged = [b if a == _NEUTRAL else a for a, b in pairs]
    columns = list(zip(*merged, strict=True)) or [()] * 5
    names = ("stride", "padding", "dilation", "output_padding")
    return dict(zip(names, columns[1:], strict=True))


_NEUTRAL = (1, 1, (0, 0), 1, 0)


def _axis_geometry(layer: Layer) -> list[tuple[object, ...]]:
    """Taps, stride, padding, dilation (1 for a single tap) and output padding of each axis."""
    dilation = [d if k > 1 else 1 for d, k in zip(layer.dilation, layer.kernel, strict=True)]
    values = (layer.kernel, layer.stride, layer.padding, dilation, layer.output_padding)
    return list(zip(*values, strict=True))


def _bias(one: Layer, two: Layer) -> Array | None:
    """Bias of the composition: the second layer's, plus the first's multiplied by the sum of all taps."""
    if one.bias is None:
        return two.bias
    if two.transposed or any(sum(p) for p in two.padding):
        raise UnsupportedLayer(
            "a bias before a padded layer: the chain differs at the border and isn't one layer"
        )
    taps = _group_blocks(two).reshape(two.groups, -1, two.weight.shape[1], prod(two.kernel)).sum(axis=3)
    carried: Array = (taps @ one.bias.reshape(two.groups, -1, 1)).reshape(-1)
    return carried if two.bias is None else carried + two.bias


def _cast(layer: Layer, dtype: np.dtype[np.generic]) -> Layer:
    bias = None if layer.bias is None else layer.bias.astype(dtype)
    return replace(layer, weight=layer.weight.astype(dtype), bias=bias)
