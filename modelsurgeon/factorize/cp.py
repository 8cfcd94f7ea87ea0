"""`cp` and `cp-separable`: CP decomposition, a sum of r rank-1 terms found by `cp_als`.

- `cp`: `W[o, i, taps] ~ sum_r A[o, r] B[i, r] C[taps, r]` (Harshman, 1970), all kernel axes in one mode: a
  1x1 `(r, in, 1, ...)`, a depthwise k x k `(r, 1, *kernel)` in r groups, a 1x1 `(out, r, 1, ...)`.
- `cp-separable`: a mode for every kernel axis (Lebedev et al., 2015, arXiv:1412.6553): a 1x1 `(r, in, 1, 1)`,
  a depthwise kh x 1 `(r, 1, kh, 1)`, a depthwise 1 x kw `(r, 1, 1, kw)`, a 1x1 `(out, r, 1, 1)`. It needs a
  larger rank for the same error and has fewer taps at the same rank: it pays for large kernels.

The rank r is the number of terms, at most the product of all modes but the largest; there the chain is exact.
With one tap the weight is a matrix and both are `svd`. With one kernel axis both are the same.
The error is the relative error of the weight (Frobenius), estimated before a chain is computed, see `errors`.
Both raise as `Method` does: UnsupportedLayer for an empty weight or one with NaN or Inf.
MACs per output position at stride 1: `r * (in + prod(kernel) + out)`, or `r * (in + sum(kernel) + out)`; with
a stride the first 1x1 runs at input resolution.
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

MIN_SAVING = 0.1  # share of a term's cost that one more layer has to save
MAX_DECOMPOSED_RANKS = 3  # ranks at which the decomposition is computed for the error at all ranks
MAX_OPERATIONS = 2 * 10**8  # elements times rank, of a decomposed rank that is above all channels
MIN_ERROR = 1e-12

Axes = tuple[int, ...]
Split = Callable[[Sequence[int]], list[Axes]]


def joint_axes(kernel: Sequence[int]) -> list[Axes]:
    """The split of `cp`: all kernel axes in one factor."""
    return [tuple(range(len(kernel)))]


def separate_axes(kernel: Sequence[int]) -> list[Axes]:
    """The split of `cp-separable`: a factor for every axis with several taps; the first has all others."""
    wide = [axis for axis, taps in enumerate(kernel) if taps > 1]
    rest = tuple(axis for axis, taps in enumerate(kernel) if taps == 1)
    return [(wide[0], *rest), *((axis,) for axis in wide[1:])]


def outline(split: Split, layer: Layer, rank: int) -> list[Factor]:
    """Shapes of the factors; those of `svd` for a kernel of one tap.

    `(rank, in, 1, ...)`, a depthwise `(rank, 1, *taps)` for each part of the split, `(out, rank, 1, ...)`.
    """
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
    """Weights of the factors, in the shapes of `outline`."""
    if layer.is_pointwise:
        return svd.factors(layer, rank)
    a, b, *taps = cp_als.decompose(tensor(split, layer), rank)
    weights = (b.T, *(t.T for t in taps), a)
    return [w.reshape(f.shape) for w, f in zip(weights, outline(split, layer, rank), strict=True)]


def bound(split: Split, layer: Layer) -> int:
    """A rank at which the chain is exact: the product of all modes but the largest."""
    return svd.bound(layer) if layer.is_pointwise else cp_tensor.exact_rank(_mode_sizes(split, layer))


def errors(split: Split, layer: Layer, ranks: Sequence[int]) -> list[float]:
    """Estimated relative error of the weight (Frobenius) at each rank.

    The error of the start of `cp_als` is known at every rank. The factor by which its sweeps reduce the error
    is computed at a few ranks and interpolated: its logarithm is nearly linear in the rank.
    """
    if layer.is_pointwise:
        return svd.errors(layer, ranks)
    whole = tensor(split, layer)
    knots = _decomposed_ranks(ranks, _max_decomposed_rank(whole))
    start = cp_tensor.orthogonal_terms(whole, max(knots))
    found = [cp_als.forecast_error(start, rank) for rank in knots]
    gains = np.log(np.maximum(found, MIN_ERROR) / np.maximum(start.errors(knots), MIN_ERROR)).clip(max=0.0)
    return [float(e) for e in start.errors(ranks) * np.exp(_extrapolated(ranks, knots, gains))]


def tensor(split: Split, layer: Layer) -> Array:
    """The weight as a tensor `(out, in, *taps of each part of the split)`."""
    return require_finite(layer.weight).reshape(_mode_sizes(split, layer))


def _mode_sizes(split: Split, layer: Layer) -> list[int]:
    """Shape of `tensor`."""
    kernel = layer.kernel
    return [*layer.weight.shape[:2], *(prod(kernel[axis] for axis in axes) for axes in split(kernel))]


def _max_decomposed_rank(whole: Array) -> int:
    """The largest rank to decompose for an error estimate, limited for time in a large tensor."""
    return int(min(cp_tensor.exact_rank(whole.shape), max(*whole.shape[:2], MAX_OPERATIONS // whole.size)))


def _decomposed_ranks(ranks: Sequence[int], most: int) -> list[int]:
    """Up to `MAX_DECOMPOSED_RANKS` ranks to decompose, evenly spaced over `ranks` but none above `most`.

    Where `ranks` exceed `most` there are at least two of them, as a slope is needed.
    """
    high = min(max(ranks), most)
    low = min(min(ranks), high if high == max(ranks) else max(high // 2, 1))
    return sorted({round(r) for r in np.linspace(low, high, MAX_DECOMPOSED_RANKS)})


def _extrapolated(ranks: Sequence[int], knots: Sequence[int], values: Array) -> Array:
    """Values at the knots interpolated at `ranks`; beyond the last knot its slope continues, if negative."""
    inner = np.interp(ranks, knots, values)
    if len(knots) > 1:
        slope = min(0.0, (values[-1] - values[-2]) / (knots[-1] - knots[-2]))
        inner += slope * np.maximum(np.asarray(ranks) - knots[-1], 0)
    return np.asarray(inner)


def separation_pays(layer: Layer) -> bool:
    """Whether a factor for every axis makes terms cheaper by `MIN_SAVING`: large kernels, few channels."""
    taps, channels = prod(layer.kernel), sum(layer.weight.shape[:2])
    return not svd.two_factors_suffice(layer) and taps - sum(
        _mode_sizes(separate_axes, layer)[2:]
    ) >= MIN_SAVING * (channels + taps)


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


CP = _method(
    "cp",
    "three layers; 1x1, depthwise k x k, 1x1",
    joint_axes,
    lambda layer: not svd.two_factors_suffice(layer),
)
CP_SEPARABLE = _method(
    "cp-separable", "four layers; 1x1, depthwise k x 1, depthwise 1 x k, 1x1", separate_axes, separation_pays
)
