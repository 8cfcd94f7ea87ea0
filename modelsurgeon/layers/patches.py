"""Input rows of a layer: inputs of a fully connected layer, patches under a convolution's kernel.

Neighboring patches are nearly equal, so a few random positions of every sample represent all of them.
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.layers.layer import Array, Layer

Index = NDArray[np.intp]


def draw_positions(places: int, wanted: int, samples: int, rng: np.random.Generator) -> Index:
    """Ascending random positions `(p,)` of `places`; p is wanted / samples, rounded up."""
    count = min(places, ceil(wanted / max(1, samples)))
    return np.sort(rng.choice(places, count, replace=False)).astype(np.intp)


def output_positions(layer: Layer, x: Array) -> int:
    """Number of output positions of the layer for x, `(n, channels, *space)`."""
    return prod(layer.out_size(x.shape[2:]))


def channels_at(x: Array, at: Index) -> Array:
    """Channels of x, `(n, channels, *space)`, at flat positions `(p,)`: rows `(n * p, channels)`."""
    flat = x.reshape(*x.shape[:2], -1)[:, :, at]
    return np.moveaxis(flat, 1, 2).reshape(-1, x.shape[1])


def patch_mixers(layer: Layer, before: Layer, last: Layer) -> list[Array]:
    """For each group, the matrix `(columns, z)` that maps a patch of the layer to a patch of the last factor.

    before: the composition of all factors but `last`. columns: in / groups * prod(kernel). z: input channels
    per group of the last factor times its taps.
    """
    return [_mixer(part, layer.kernel, last.kernel) for part in np.split(before.weight, layer.groups)]


def _mixer(before: Array, kernel: tuple[int, ...], last: tuple[int, ...]) -> Array:
    """The matrix of a group. before: `(rank, in, *kernel)`, one tap on each axis where `last` has several."""
    rank, into = before.shape[:2]
    whole = np.zeros((rank, *last, into, *kernel))
    for tap in np.ndindex(*last):
        here = tuple(slice(t, t + 1) if k > 1 else slice(None) for t, k in zip(tap, last, strict=True))
        whole[(slice(None), *tap, slice(None), *here)] = before
    return whole.reshape(rank * prod(last), -1).T


def patches_at(layer: Layer, x: Array, at: Index) -> Array:
    """Input patches of a layer at flat output positions `(p,)`; x itself for a fully connected layer.

    x: `(n, channels, *space)`. The result is `(n * p, channels * prod(kernel))`, its columns in the order of
    the weight's axes, padded taps zero. For a layer without groups, the result @ `weight.reshape(out, -1).T`
    is its output less the bias.
    """
    if not layer.kernel:
        return x
    ndim, size = len(layer.kernel), layer.out_size(x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), *layer.padding)) if np.any(layer.padding) else x
    index: list[Index | slice] = [slice(None), slice(None)]
    for axis, place in enumerate(np.unravel_index(at, size)):
        taps = layer.dilation[axis] * np.arange(layer.kernel[axis])
        starts = layer.stride[axis] * place[:, None] + taps
        index.append(starts.reshape(len(at), *(len(taps) if a == axis else 1 for a in range(ndim))))
    found = padded[tuple(index)]  # (n, channels, p, *kernel)
    return np.moveaxis(found, 1, 2).reshape(len(x) * len(at), -1)
