"""A convolution as a matrix: im2col, and a sparse matrix for analysis.

A convolution is linear, so for inputs of one size it is one matrix. Dense it is too large to store (64 to 64
channels, 3 x 3, on a map of 56 x 56: 150 GiB), and most of it is zero. A sparse matrix has at most one entry
per MAC, and scipy computes its norms, singular values and condition number.

Both forms follow from the pairs of an input and an output position that each tap of the kernel connects. With
stride s, dilation d and padding b at the beginning of an axis, tap t connects

    input = output * s + t * d - b        for a convolution,
    output = input * s + t * d - b        for a transposed one.

Source: Chellapilla, Puri, Simard: High performance convolutional neural networks (2006) for im2col.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.arguments import checked
from modelsurgeon.errors import BadArgument
from modelsurgeon.layers.layer import Array, Layer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Index = NDArray[np.intp]


@checked
def conv_matrix(layer: Layer, size: Sequence[int] = ()) -> csr_array[Any]:
    """The sparse matrix of a layer for one input size, without the bias.

    size: spatial input size, one number per kernel axis; `()` for a fully connected layer.
    The result has shape `(out * prod(out_size), in * prod(size))` and the weight's dtype. For x of shape
    `(in, *size)`, `matrix @ x.ravel()` is the layer's output `(out, *out_size)` less the bias, flat in C
    order.
    Raises BadArgument where size doesn't fit the kernel or leaves no output, and for a dtype that scipy can't
    store in sparse matrices (float16).
    """
    from scipy.sparse import coo_array, csr_array

    out_size = _out_size(layer, size)
    positions, sources = prod(out_size), prod(size)
    shape = (layer.out_channels * positions, layer.in_channels * sources)
    outs, ins = _channels(layer)
    taps = layer.weight.reshape(*layer.weight.shape[:2], -1)
    blocks = [
        np.broadcast_arrays(taps[:, :, tap, None], outs * positions + to, ins * sources + source)
        for tap, (to, source) in enumerate(_tap_positions(layer, size, out_size))
    ]
    values, rows, columns = (np.concatenate([block[i].ravel() for block in blocks]) for i in range(3))
    return csr_array(coo_array((values, (rows, columns)), shape=shape))


@checked
def im2col(layer: Layer, x: Array) -> Array:
    """The columns that the layer's weight is multiplied with, one for each output position.

    x: one input `(in, *size)`, without a batch axis.
    The result has shape `(groups, in / groups * prod(kernel), prod(out_size))` and x's dtype; padding is 0.
    `weight.reshape(groups, out / groups, -1) @ columns`, reshaped to `(out, *out_size)`, is the layer's
    output less its bias, for transposed layers too.
    Raises BadArgument where x doesn't fit the layer. Source: Chellapilla, Puri, Simard, 2006.
    """
    if x.shape[:1] != (layer.in_channels,):
        raise BadArgument(f"x of shape {x.shape}: ({layer.in_channels}, *size) is needed")
    size = x.shape[1:]
    out_size = _out_size(layer, size)
    columns = np.zeros((layer.in_channels, prod(layer.kernel), prod(out_size)), x.dtype)
    flat = x.reshape(layer.in_channels, -1)
    for tap, (to, source) in enumerate(_tap_positions(layer, size, out_size)):
        columns[:, tap, to] = flat[:, source]
    return columns.reshape(layer.groups, -1, columns.shape[-1])


def _out_size(layer: Layer, size: Sequence[int]) -> tuple[int, ...]:
    """Spatial output size. Raises BadArgument where size doesn't fit the kernel or leaves no output."""
    if len(size) != len(layer.kernel):
        raise BadArgument(f"size {tuple(size)}: one number per axis of the kernel {layer.kernel} is needed")
    out_size = layer.out_size(size)
    if any(n < 1 for n in (*size, *out_size)):
        raise BadArgument(
            f"on a map of {tuple(size)} the layer has the output size {out_size}: give a larger one"
        )
    return out_size


def _channels(layer: Layer) -> tuple[Index, Index]:
    """Output and input channel of every weight of one tap, both broadcast to `(out, in / groups, 1)`."""
    outs = np.arange(layer.out_channels)[:, None, None]
    into = layer.weight.shape[1]
    group = outs // (layer.out_channels // layer.groups)
    return outs, group * into + np.arange(into)[:, None]


def _tap_positions(
    layer: Layer, size: Sequence[int], out_size: Sequence[int]
) -> Iterator[tuple[Index, Index]]:
    """For every tap in C order, the flat output and input positions that it connects, pairwise."""
    axes = range(len(layer.kernel))
    for tap in product(*map(range, layer.kernel)):
        pairs = [_axis_positions(layer, axis, tap[axis], size[axis], out_size[axis]) for axis in axes]
        yield (
            _flat_positions([to for to, _ in pairs], out_size),
            _flat_positions([source for _, source in pairs], size),
        )


def _axis_positions(layer: Layer, axis: int, tap: int, n_in: int, n_out: int) -> tuple[Index, Index]:
    """Output and input positions on one axis that a tap connects."""
    begin = layer.padding[axis][0]
    index, limit = np.arange(n_in if layer.transposed else n_out), n_out if layer.transposed else n_in
    partner = index * layer.stride[axis] + tap * layer.dilation[axis] - begin
    inside = (partner >= 0) & (partner < limit)
    index, partner = index[inside], partner[inside]
    return (partner, index) if layer.transposed else (index, partner)


def _flat_positions(positions: Sequence[Index], size: Sequence[int]) -> Index:
    """Flat indices in C order of all combinations of the positions on each axis."""
    index = np.zeros(1, np.intp)
    for on_axis, n in zip(positions, size, strict=True):
        index = (index[:, None] * n + on_axis).ravel()
    return index
