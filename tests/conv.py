"""Reference convolution, computed by its definition; only the geometry is taken from `Layer`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.layers import Layer


def run(chain: Sequence[Layer], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Output of a chain of layers; x and the result are (channels, *size)."""
    for layer in chain:
        x = _transposed(layer, x) if layer.transposed else _forward(layer, x)
    return x


def sizes(layer: Layer, n: int = 7) -> tuple[int, ...]:
    return (n,) * len(layer.kernel)


def _forward(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(x, ((0, 0), *layer.padding))
    size = layer.out_size(x.shape[1:])
    y = np.zeros((layer.out_channels, *size))
    for taps in product(*map(range, layer.kernel)):
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(taps, layer.dilation, size, layer.stride, strict=True)
        )
        y += _mix(layer, taps, padded[(slice(None), *window)])
    return _biased(layer, y)


def _transposed(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = [
        (n - 1) * s + d * (k - 1) + 1 + o
        for n, s, d, k, o in zip(
            x.shape[1:], layer.stride, layer.dilation, layer.kernel, layer.output_padding, strict=True
        )
    ]
    y = np.zeros((layer.out_channels, *wide))
    for taps in product(*map(range, layer.kernel)):
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(taps, layer.dilation, x.shape[1:], layer.stride, strict=True)
        )
        y[(slice(None), *window)] += _mix(layer, taps, x)
    crop = tuple(slice(b, n - e) for (b, e), n in zip(layer.padding, wide, strict=True))
    return _biased(layer, y[(slice(None), *crop)])


def _mix(layer: Layer, taps: tuple[int, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grouped product at one kernel tap."""
    out, into = layer.out_channels // layer.groups, layer.weight.shape[1]
    rows = []
    for g in range(layer.groups):
        w = layer.weight[(slice(g * out, (g + 1) * out), slice(None), *taps)].astype(np.float64)
        rows.append(np.tensordot(w, x[g * into : (g + 1) * into], axes=1))
    return np.concatenate(rows)


def _biased(layer: Layer, y: NDArray[np.float64]) -> NDArray[np.float64]:
    if layer.bias is None:
        return y
    return y + layer.bias.reshape(-1, *(1,) * (y.ndim - 1))
