"""Singular values of a convolution as a linear operator on maps, not of its unfolded weight.

With circular padding a convolution acts on every frequency separately: its singular values are those of the
matrices `F(w) = sum over taps t of W[:, :, t] exp(-i w t)`, one for each frequency w of the map. At a stride
s, s^d frequencies fold into one, and their matrices are concatenated, divided by sqrt(s^d). Groups are
independent; a transposed convolution has the singular values of the convolution that it is the transpose of.

Source: Sedghi, Gupta and Long, The singular values of convolutional layers, 2019, arXiv:1805.10408; stride by
the aliasing of the discrete Fourier transform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, cos, pi, prod
from typing import Any

import numpy as np

from modelsurgeon import linalg
from modelsurgeon.layers import Array, Layer

MAX_EXACT_OPERATIONS = 3e8  # complex multiplications for the exact norm of one layer
GRID_DENSITY = 8  # frequencies per tap of the kernel, where not all of them are evaluated
MAX_CHUNK_NUMBERS = 2**21  # complex numbers in memory at a time
ITERATION_STEPS, ITERATION_VECTORS = 8, 4  # of subspace iteration, where a full decomposition is too slow


@dataclass(frozen=True, kw_only=True)
class OperatorNorm:
    """The largest singular value of a convolution with circular padding: its Lipschitz constant.

    size: of the map that it was computed for. exact: by full decompositions at all frequencies. Otherwise by
    subspace iteration, which is less than 1 % too low on trained weights. slack: 0 unless only a grid of
    frequencies was evaluated, as fine as those of a map of `size`: the share by which the norm can be larger
    between them; the bound then holds for maps of any size.
    """

    norm: float
    size: tuple[int, ...]
    exact: bool
    slack: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"norm": self.norm, "size": list(self.size), "exact": self.exact, "slack": self.slack}


def operator_norm(layer: Layer, size: Sequence[int]) -> OperatorNorm:
    """The largest singular value of a convolution on maps of this size.

    size: of the layer's input, one number per kernel axis; rounded up to a multiple of the stride. Full
    decompositions are made where that takes at most `MAX_EXACT_OPERATIONS` multiplications, subspace
    iteration otherwise; on a map of more than `GRID_DENSITY` frequencies per tap, on a grid of that density.
    Between those the norm is at most 1 / prod cos(pi (taps - 1) / (2 frequencies)) times as large, because it
    is the largest value of a trigonometric polynomial (Ehlich and Zeller, 1964). Raises UnsupportedLayer for
    NaN and Inf.
    """
    layer = _untransposed(layer)
    grid = _map_size(layer, size)
    if _operations(layer, grid) <= MAX_EXACT_OPERATIONS:
        squares = (_gram_values(block)[..., -1].max() for block in _frequency_matrices(layer, grid))
        return OperatorNorm(norm=max(0.0, *map(float, squares)) ** 0.5, size=grid, exact=True)
    # On an infinite map, a dilation only repeats the frequencies.
    sampled = replace(layer, dilation=()) if max(layer.stride) == 1 else layer
    points = _grid_size(sampled)
    if prod(points) >= prod(grid):
        norm = max(float(_norms_by_iteration(block).max()) for block in _frequency_matrices(layer, grid))
        return OperatorNorm(norm=norm, size=grid, exact=False)
    norm = max(float(_norms_by_iteration(block).max()) for block in _frequency_matrices(sampled, points))
    return OperatorNorm(norm=norm, size=points, exact=False, slack=_slack(sampled, points))


def operator_spectrum(layer: Layer, size: Sequence[int]) -> Array:
    """All singular values of a convolution on maps of this size with circular padding, largest first.

    size: as for `operator_norm`. Cost: one small decomposition per position of the output map.
    Raises UnsupportedLayer for NaN and Inf.
    """
    layer = _untransposed(layer)
    matrices = _frequency_matrices(layer, _map_size(layer, size), half=False)
    values = [np.linalg.svd(block, compute_uv=False).ravel() for block in matrices]
    return np.sort(np.concatenate(values))[::-1]


def _untransposed(layer: Layer) -> Layer:
    """The convolution itself; for a transposed one, the convolution that it is the transpose of."""
    if not layer.transposed:
        return layer
    out, per_group, *kernel = layer.weight.shape
    blocks = layer.weight.reshape(layer.groups, out // layer.groups, per_group, *kernel)
    weight = np.swapaxes(blocks, 1, 2).reshape(layer.groups * per_group, out // layer.groups, *kernel)
    return Layer(
        weight=weight, stride=layer.stride, dilation=layer.dilation, groups=layer.groups, transposed=True
    )


def _map_size(layer: Layer, size: Sequence[int]) -> tuple[int, ...]:
    """Size of the convolution's input map; for a transposed layer, of its output map."""
    if layer.transposed:
        return tuple(n * s for n, s in zip(size, layer.stride, strict=True))
    return tuple(ceil(n / s) * s for n, s in zip(size, layer.stride, strict=True))


def _operations(layer: Layer, grid: Sequence[int]) -> float:
    """Complex multiplications of all Gram matrices and their eigenvalues."""
    out, wide = layer.out_channels // layer.groups, layer.weight.shape[1] * prod(layer.stride)
    short, positions = min(out, wide), prod(grid) / (2 * prod(layer.stride))
    return float(layer.groups * positions * short * short * (max(out, wide) + 10 * short))


def _spans(layer: Layer) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True)]


def _grid_size(layer: Layer) -> tuple[int, ...]:
    return tuple(ceil(GRID_DENSITY * n / s) * s for n, s in zip(_spans(layer), layer.stride, strict=True))


def _slack(layer: Layer, points: Sequence[int]) -> float:
    cosines = (cos(pi * (span - 1) / 2 / n) for span, n in zip(_spans(layer), points, strict=True))
    return float(1 / prod(cosines)) - 1


def _frequency_matrices(layer: Layer, grid: Sequence[int], *, half: bool = True) -> Iterator[Array]:
    """The matrices `(frequencies, out / groups, in / groups * s^d)`, in chunks, group by group.

    half: leave out frequencies whose matrices are conjugates of others.
    """
    weight = linalg.require_finite(layer.weight)
    taps = np.array(list(product(*map(range, layer.kernel)))) * layer.dilation
    kept, folds = _output_frequencies(grid, layer.stride, half), _alias_offsets(grid, layer.stride)
    size, width = layer.out_channels // layer.groups, weight.shape[1]
    step = max(1, MAX_CHUNK_NUMBERS // max(1, size * width * len(folds)))
    for first in range(0, layer.out_channels, size):
        flat = weight[first : first + size].reshape(size * width, -1).T
        for start in range(0, len(kept), step):
            where = (kept[start : start + step, None] + folds) / np.array(grid)
            phases = np.exp(-2j * pi * (where.reshape(-1, len(grid)) @ taps.T))
            found = (phases.astype(_complex_type(weight)) @ flat).reshape(-1, len(folds), size, width)
            yield np.moveaxis(found, 1, 2).reshape(len(found), size, -1) / len(folds) ** 0.5


def _complex_type(weight: Array) -> type[np.complexfloating[Any, Any]]:
    return np.complex64 if weight.dtype == np.float32 else np.complex128


def _output_frequencies(grid: Sequence[int], stride: Sequence[int], half: bool) -> Array:
    """Frequencies of the output map as integers, `(count, axes)`."""
    ranges = [range(n // s) for n, s in zip(grid, stride, strict=True)]
    if half:
        ranges[0] = range(len(ranges[0]) // 2 + 1)
    return np.array(list(product(*ranges)))


def _alias_offsets(grid: Sequence[int], stride: Sequence[int]) -> Array:
    """Offsets from an output frequency to the input frequencies that alias to it, `(s^d, axes)`."""
    steps = [range(0, n, n // s) for n, s in zip(grid, stride, strict=True)]
    return np.array(list(product(*steps)))


def _gram_values(block: Array) -> Array:
    """Eigenvalues of every `A A^H` or `A^H A`, whichever is smaller, in ascending order."""
    block = block.astype(np.complex128)
    adjoint = block.conj().swapaxes(1, 2)
    small = block @ adjoint if block.shape[1] <= block.shape[2] else adjoint @ block
    with linalg.single_blas_thread(1):
        return np.asarray(np.linalg.eigvalsh(small))


def _norms_by_iteration(block: Array) -> Array:
    """A lower bound on the largest singular value of every matrix, by subspace iteration."""
    adjoint = block.conj().swapaxes(1, 2)
    start_vectors = np.random.default_rng(0).standard_normal(
        (block.shape[2], min(ITERATION_VECTORS, *block.shape[1:]))
    )
    right = np.broadcast_to(start_vectors, (len(block), *start_vectors.shape)).astype(block.dtype)
    with linalg.single_blas_thread(1):
        for _ in range(ITERATION_STEPS):
            right, _ = np.linalg.qr(adjoint @ (block @ right))
        return np.asarray(np.linalg.svd(block @ right, compute_uv=False)[:, 0])
