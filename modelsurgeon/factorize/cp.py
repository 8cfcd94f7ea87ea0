"""`cp` and `cp-separable`: a sum of rank-1 terms (see `als` for how it is found).

`cp` keeps the kernel's axes together: `W[o, i, taps] ~ sum_r A[o, r] B[i, r] C[taps, r]` is a 1x1 to r
channels, a depthwise k x k, a 1x1 to the outputs. `cp-separable` gives every axis a factor of its own
(Lebedev et al., 2015, arXiv:1412.6553): a 1x1, a depthwise k x 1, a depthwise 1 x k, a 1x1. It needs a
larger rank for the same error, and fewer taps for the same rank: it pays for large kernels.
A kernel of one tap is a matrix, and its CP is its `svd`. With one axis of taps both are the same.

Cost per output position at stride 1: `r * (in + prod(kernel) + out)`, or `r * (in + sum(kernel) + out)`; the
first 1x1 runs at input resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from modelsurgeon.factorize import cp_als, cp_tensor, svd
from modelsurgeon.factorize.method import Factor, Method
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import require_finite

MIN_SAVING = 0.1  # of a term's cost, for one more layer
DECOMPOSED_RANKS = 3  # ranks that are decomposed for an error curve,
MAX_OPERATIONS = 2 * 10**8  # elements times rank at most, or a rank as large as the channels
MIN_ERROR = 1e-12

Axes = tuple[int, ...]
Split = Callable[[Sequence[int]], list[Axes]]


def together(kernel: Sequence[int]) -> list[Axes]:
    """All axes of the kernel in one factor."""
    return [tuple(range(len(kernel)))]


def apart(kernel: Sequence[int]) -> list[Axes]:
    """A factor for every axis with more than one tap; the others, which are neutral, go with the first."""
    wide = [axis for axis, taps in enumerate(kernel) if taps > 1]
    rest = tuple(axis for axis, taps in enumerate(kernel) if taps == 1)
    return [(wide[0], *rest), *((axis,) for axis in wide[1:])]


def outline(split: Split, layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the chain."""
    if layer.is_pointwise:
        return svd.outline(layer, rank)
    out, into, *kernel = layer.weight.shape
    ones = (1,) * len(kernel)
    middle = [
        Factor(
            shape=(rank, 1, *(k if axis in axes else 1 for axis, k in enumerate(kernel))),
            axes=axes,
            groups=rank,
        )
        for axes in split(kernel)
    ]
    return [Factor(shape=(rank, into, *ones)), *middle, Factor(shape=(out, rank, *ones))]


def factors(split: Split, layer: Layer, rank: int) -> list[Array]:
    """Weights of the chain."""
    if layer.is_pointwise:
        return svd.factors(layer, rank)
    a, b, *taps = cp_als.decompose(tensor(split, layer), rank)
    weights = (b.T, *(t.T for t in taps), a)
    return [w.reshape(f.shape) for w, f in zip(weights, outline(split, layer, rank), strict=True)]


def bound(split: Split, layer: Layer) -> int:
    """A rank that is always enough."""
    return svd.bound(layer) if layer.is_pointwise else cp_tensor.enough(_sizes(split, layer))


def errors(split: Split, layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Relative error at each rank, an estimate.

    The error of the start is known at every rank. By how much the sweeps better it is found at a few ranks:
    the logarithm of that gain is nearly linear in the rank, so the other ranks follow.
    """
    if layer.is_pointwise:
        return svd.errors(layer, ranks)
    whole = tensor(split, layer)
    knots = _knots(ranks, _worth(whole))
    start = cp_tensor.orthogonal_terms(whole, max(knots))
    found = [cp_als.forecast_error(start, rank) for rank in knots]
    gains = np.log(np.maximum(found, MIN_ERROR) / np.maximum(start.errors(knots), MIN_ERROR)).clip(max=0.0)
    return [float(e) for e in start.errors(ranks) * np.exp(_carried(ranks, knots, gains))]


def tensor(split: Split, layer: Layer) -> Array:
    """The weight as `(out, in, *taps of each factor)`."""
    return require_finite(layer.weight).reshape(_sizes(split, layer))


def _sizes(split: Split, layer: Layer) -> list[int]:
    kernel = layer.kernel
    return [*layer.weight.shape[:2], *(prod(kernel[axis] for axis in axes) for axes in split(kernel))]


def _worth(whole: Array) -> int:
    """The largest rank that is worth being decomposed for an estimate; all are where the tensor is small."""
    return int(min(cp_tensor.enough(whole.shape), max(*whole.shape[:2], MAX_OPERATIONS // whole.size)))


def _knots(ranks: Sequence[int], most: int) -> list[int]:
    """Ranks to decompose, evenly from the least asked for to the largest; beyond `most` a slope is needed."""
    high = min(max(ranks), most)
    low = min(min(ranks), high if high == max(ranks) else max(high // 2, 1))
    return sorted({round(r) for r in np.linspace(low, high, DECOMPOSED_RANKS)})


def _carried(ranks: Sequence[int], knots: Sequence[int], values: Array) -> Array:
    """Values at the knots interpolated; beyond the last one its slope goes on, if it falls."""
    inner = np.interp(ranks, knots, values)
    if len(knots) > 1:
        slope = min(0.0, (values[-1] - values[-2]) / (knots[-1] - knots[-2]))
        inner += slope * np.maximum(np.asarray(ranks) - knots[-1], 0)
    return np.asarray(inner)


def saves(layer: Layer) -> bool:
    """True where a factor for every axis makes terms cheaper by `MIN_SAVING`: large kernels, few channels."""
    taps, channels = prod(layer.kernel), sum(layer.weight.shape[:2])
    return not svd.simple(layer) and taps - sum(_sizes(apart, layer)[2:]) >= MIN_SAVING * (channels + taps)


def _method(name: str, summary: str, split: Split, distinct: Callable[[Layer], bool]) -> Method[int]:
    return Method[int](
        name=name,
        summary=summary,
        outline=partial(outline, split),
        factors=partial(factors, split),
        bound=partial(bound, split),
        errors=partial(errors, split),
        distinct=distinct,
        spectral=False,
    )


CP = _method("cp", "three layers; 1x1, depthwise k x k, 1x1", together, lambda layer: not svd.simple(layer))
CP_SEPARABLE = _method(
    "cp-separable", "four layers; 1x1, depthwise k x 1, depthwise 1 x k, 1x1", apart, saves
)
