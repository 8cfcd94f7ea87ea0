"""Rows that a layer is applied to: inputs of a fully connected layer, patches under a convolution's kernel.

Neighbouring patches say nearly the same, so a few positions of every sample stand for all of them.
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.layers.layer import Array, Layer

Index = NDArray[np.intp]


def draw_positions(places: int, wanted: int, samples: int, rng: np.random.Generator) -> Index:
    """Some of `places` positions, `(p,)` in order: so many that all samples together give `wanted` rows."""
    count = min(places, ceil(wanted / max(1, samples)))
    return np.sort(rng.choice(places, count, replace=False)).astype(np.intp)


def output_places(layer: Layer, x: Array) -> int:
    """How many output positions the layer has on x, `(n, channels, *space)`."""
    return prod(layer.out_size(x.shape[2:]))


def channels_at(x: Array, at: Index) -> Array:
    """Channels of x, `(n, channels, *space)`, at flat positions `(p,)`: rows `(n * p, channels)`."""
    flat = x.reshape(*x.shape[:2], -1)[:, :, at]
    return np.moveaxis(flat, 1, 2).reshape(-1, x.shape[1])


def patch_mixers(layer: Layer, before: Layer, last: Layer) -> list[Array]:
    """For each group, the matrix `(columns, z)` that takes a patch of the layer to one of the last factor.

    before: the layer that the factors before `last` equal.
    """
    return [_mixer(part, layer.kernel, last.kernel) for part in np.split(before.weight, layer.groups)]


def _mixer(before: Array, kernel: tuple[int, ...], last: tuple[int, ...]) -> Array:
    """before: `(rank, in, *kernel)`, with one tap on each axis of which `last`, the last kernel, has more."""
    rank, into = before.shape[:2]
    whole = np.zeros((rank, *last, into, *kernel))
    for tap in np.ndindex(*last):
        here = tuple(slice(t, t + 1) if k > 1 else slice(None) for t, k in zip(tap, last, strict=True))
        whole[(slice(None), *tap, slice(None), *here)] = before
    return whole.reshape(rank * prod(last), -1).T


def patches_at(layer: Layer, x: Array, at: Index) -> Array:
    """Patches that a convolution turns into its outputs at flat output positions `(p,)`.

    x: `(n, channels, *space)`. The result is `(n * p, channels * prod(kernel))`, its columns in the order of
    the weight's axes, padded taps zero. Times `weight.reshape(out, -1).T` they give outputs, less the bias.
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
