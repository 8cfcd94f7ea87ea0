"""A convolution as the matrix it is: im2col, and a sparse operator for analysis.

A convolution is linear, so over maps of one size it is one matrix. Written densely that matrix is out of
reach (64 to 64 channels, 3 x 3, on a map of 56 x 56: 150 GiB), and most of it is zero. Stored sparsely it has
at most one number per MAC, and scipy can ask it for norms, singular values and conditions.

Both forms follow from one list: for every tap of the kernel, which input position meets which output
position. With stride s, dilation d and padding b at the beginning of an axis, tap t joins

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

from modelsurgeon.layers.layer import Array, Layer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Index = NDArray[np.intp]


def conv_matrix(layer: Layer, size: Sequence[int] = ()) -> csr_array[Any]:
    """The layer on maps of one size as a sparse matrix; the bias stands apart.

    size: spatial input size, one number per kernel axis. The result has shape
    `(out * prod(out_size), in * prod(size))`, and `matrix @ x.ravel()` is `layer(x).ravel()` less the bias,
    for x of shape `(in, *size)`. Raises ValueError where size doesn't fit the kernel or leaves no output.
    """
    from scipy.sparse import coo_array, csr_array

    out_size = _out_size(layer, size)
    places, sources = prod(out_size), prod(size)
    shape = (layer.out_channels * places, layer.in_channels * sources)
    outs, ins = _channels(layer)
    taps = layer.weight.reshape(*layer.weight.shape[:2], -1)
    blocks = [
        np.broadcast_arrays(taps[:, :, tap, None], outs * places + to, ins * sources + source)
        for tap, (to, source) in enumerate(_meetings(layer, size, out_size))
    ]
    values, rows, columns = (np.concatenate([block[i].ravel() for block in blocks]) for i in range(3))
    return csr_array(coo_array((values, (rows, columns)), shape=shape))


def im2col(layer: Layer, x: Array) -> Array:
    """The columns that the layer's weight is multiplied with.

    x: `(in, *size)`. The result has shape `(groups, in / groups * prod(kernel), prod(out_size))`;
    `weight.reshape(groups, out / groups, -1) @ columns`, reshaped to `(out, *out_size)`, is the layer's
    output less its bias. Raises ValueError where x doesn't fit the layer.
    """
    if x.shape[:1] != (layer.in_channels,):
        raise ValueError(f"x of shape {x.shape}: ({layer.in_channels}, *size) is needed")
    size = x.shape[1:]
    out_size = _out_size(layer, size)
    columns = np.zeros((layer.in_channels, prod(layer.kernel), prod(out_size)), x.dtype)
    flat = x.reshape(layer.in_channels, -1)
    for tap, (to, source) in enumerate(_meetings(layer, size, out_size)):
        columns[:, tap, to] = flat[:, source]
    return columns.reshape(layer.groups, -1, columns.shape[-1])


def _out_size(layer: Layer, size: Sequence[int]) -> tuple[int, ...]:
    if len(size) != len(layer.kernel):
        raise ValueError(f"size {tuple(size)}: one number per axis of the kernel {layer.kernel} is needed")
    out_size = layer.out_size(size)
    if any(n < 1 for n in (*size, *out_size)):
        raise ValueError(
            f"on a map of {tuple(size)} the layer has the output size {out_size}: give a larger one"
        )
    return out_size


def _channels(layer: Layer) -> tuple[Index, Index]:
    """Output and input channel of every weight of one tap, both `(out, in / groups, 1)` by broadcasting."""
    outs = np.arange(layer.out_channels)[:, None, None]
    into = layer.weight.shape[1]
    group = outs // (layer.out_channels // layer.groups)
    return outs, group * into + np.arange(into)[:, None]


def _meetings(layer: Layer, size: Sequence[int], out_size: Sequence[int]) -> Iterator[tuple[Index, Index]]:
    """For every tap in C order the output and input positions, counted through the map, that meet at it."""
    axes = range(len(layer.kernel))
    for tap in product(*map(range, layer.kernel)):
        pairs = [_meet(layer, axis, tap[axis], size[axis], out_size[axis]) for axis in axes]
        yield _flat([to for to, _ in pairs], out_size), _flat([source for _, source in pairs], size)


def _meet(layer: Layer, axis: int, tap: int, n_in: int, n_out: int) -> tuple[Index, Index]:
    """Outputs and inputs of one axis that meet at a tap."""
    begin = layer.padding[axis][0]
    near, limit = np.arange(n_in if layer.transposed else n_out), n_out if layer.transposed else n_in
    far = near * layer.stride[axis] + tap * layer.dilation[axis] - begin
    inside = (far >= 0) & (far < limit)
    near, far = near[inside], far[inside]
    return (far, near) if layer.transposed else (near, far)


def _flat(places: Sequence[Index], size: Sequence[int]) -> Index:
    """Positions along each axis, every one with every other, counted through the map in C order."""
    index = np.zeros(1, np.intp)
    for along, n in zip(places, size, strict=True):
        index = (index[:, None] * n + along).ravel()
    return index
