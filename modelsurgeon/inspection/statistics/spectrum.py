"""Singular values of a layer's unfolded weight, with the ranks that they suggest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelsurgeon import linalg
from modelsurgeon.layers import Array, Layer

RANK_ENERGIES = (0.9, 0.95, 0.99)
LARGEST_SIDE = 4096  # of a matrix's shorter side; above, only the largest singular value is computed
SMALL_SIDE = 32  # of a matrix's shorter side; up to here, one batched SVD of all groups is faster
CURVE_POINTS = 12  # of the curve in a table
FLOAT32_EPSILON = 2.0**-23  # float32, in which most weights are stored


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Singular values of a weight `(out, in / groups * kernel)`, largest first, of all groups together.

    values: all of them, or only the largest where more would take too long. full: their number. energy: the
    sum of their squares, which is the squared Frobenius norm.
    """

    values: Array
    full: int
    energy: float

    @property
    def whole(self) -> bool:
        """Whether all singular values are known."""
        return len(self.values) == self.full

    @property
    def norm(self) -> float:
        """The spectral norm: the largest singular value."""
        return float(self.values[0]) if len(self.values) else 0.0

    @property
    def stable_rank(self) -> float:
        """Squared Frobenius norm over squared spectral norm; at most the rank."""
        return self.energy / self.norm**2 if self.norm else 0.0

    @property
    def rank(self) -> int | None:
        """Number of singular values above float32 rounding; None where not all are known."""
        if not self.whole:
            return None
        return int(np.count_nonzero(self.values > self.full * FLOAT32_EPSILON * self.norm))

    @property
    def condition(self) -> float | None:
        """Condition number; None where the weight isn't of full rank, or not all values are known."""
        return self.norm / float(self.values[-1]) if self.full and self.rank == self.full else None

    def rank_for(self, energy: float) -> int | None:
        """The least rank that keeps this share of the energy; None where not all values are known."""
        if not self.whole:
            return None
        kept = np.cumsum(self.values.astype(np.float64) ** 2)
        return int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12)) + 1) if self.norm else 0

    def curve(self, points: int = CURVE_POINTS) -> list[float]:
        """Singular values at evenly spaced indices, as shares of the largest."""
        if not self.whole or not self.norm:
            return []
        indices = np.linspace(0, self.full - 1, min(points, self.full)).round().astype(int)
        return [float(value) / self.norm for value in self.values[indices]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "norm": self.norm,
            "frobenius": float(np.sqrt(self.energy)),
            "condition": self.condition,
            "stable_rank": self.stable_rank,
            "full_rank": self.full,
            "rank": self.rank,
            "ranks": {f"{energy:g}": self.rank_for(energy) for energy in RANK_ENERGIES},
            "curve": self.curve(),
        }


def spectrum(layer: Layer) -> Spectrum:
    """The spectrum of a layer's weight, unfolded to `(out, in / groups * kernel)`, one matrix per group.

    Only the largest singular value where the shorter side exceeds `LARGEST_SIDE`. Computed from Gram
    matrices: values below 1e-8 of the largest are noise. Raises UnsupportedLayer for NaN and Inf.
    """
    size = layer.out_channels // layer.groups
    columns = layer.weight[:1].size
    full = min(size, columns) * layer.groups
    if min(size, columns) > LARGEST_SIDE:
        found = [_largest(matrix) for matrix in matrices(layer)]
        values = np.array([max(norm for norm, _ in found)])
        return Spectrum(values=values, full=full, energy=sum(energy for _, energy in found))
    values = np.sort(np.concatenate([block.ravel() for block in _values(layer, min(size, columns))]))[::-1]
    return Spectrum(values=values, full=full, energy=float(values @ values))


def matrices(layer: Layer) -> Iterator[Array]:
    """The unfolded weight of each group, `(out / groups, in / groups * kernel)`."""
    size = layer.out_channels // layer.groups
    for start in range(0, layer.out_channels, size):
        yield layer.weight[start : start + size].reshape(size, -1)


def _values(layer: Layer, short: int) -> Iterator[Array]:
    if layer.groups > 1 and 0 < short <= SMALL_SIDE:
        stack = linalg.require_finite(layer.weight).reshape(
            layer.groups, layer.out_channels // layer.groups, -1
        )
        yield np.linalg.svd(stack.astype(np.float64), compute_uv=False)
    elif short:
        yield from (linalg.singular_values(matrix) for matrix in matrices(layer))
    else:
        yield np.zeros(0)


def _largest(matrix: Array) -> tuple[float, float]:
    """Spectral norm, to about 0.1 %, and squared Frobenius norm."""
    left, right = linalg.truncated_exact(matrix, 1)
    norm = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    energy = sum(float(np.vdot(row, row)) for row in (r.astype(np.float64) for r in matrix))
    return norm, energy
