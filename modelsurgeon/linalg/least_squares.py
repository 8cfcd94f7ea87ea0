"""Least squares with a ridge, from sums alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from modelsurgeon.layers import Array
from modelsurgeon.linalg import cholesky, singular_vectors

ROUNDING_FLOOR = 1e-6  # of the mean square: what is lost by products in float32
MIN_VARIANCE = 1e-9  # of the mean variance: below, z has no direction


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionSums:
    """Of rows z `(n, d)` and y `(n, outputs)`: what least squares of y on z needs. They add up."""

    count: int
    z: Array
    y: Array
    zz: Array
    yz: Array
    yy: float

    @classmethod
    def of(cls, z: Array, y: Array) -> RegressionSums:
        """Products in the rows' own precision, sums in float64."""
        return cls(
            count=len(z),
            z=z.sum(axis=0, dtype=np.float64),
            y=y.sum(axis=0, dtype=np.float64),
            zz=(z.T @ z).astype(np.float64),
            yz=(y.T @ z).astype(np.float64),
            yy=float(np.square(y, dtype=np.float64).sum()),
        )

    def __add__(self, other: RegressionSums) -> RegressionSums:
        """The sums over the rows of both; exact."""
        return RegressionSums(**{key: value + getattr(other, key) for key, value in vars(self).items()})

    def energy(self, others: RegressionSums, *, centred: bool) -> float:
        """Mean square of y about the mean of other rows, or about zero."""
        mean = others.y / max(1, others.count) if centred else 0.0 * self.y
        return float((self.yy - 2 * mean @ self.y) / max(1, self.count) + mean @ mean)

    def problem(self, *, centred: bool) -> LeastSquares:
        """Covariances and means; about zero where the layer has no bias to take the means up."""
        n = max(1, self.count)
        z, y = (self.z / n, self.y / n) if centred else (0.0 * self.z, 0.0 * self.y)
        variance = self.yy / n - float(y @ y)
        return LeastSquares(
            zz=self.zz / n - np.outer(z, z), yz=self.yz / n - np.outer(y, z), yy=variance, z=z, y=y
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LeastSquares:
    """Least squares of y on z: covariances, the variance of y in all, and the means."""

    zz: Array
    yz: Array
    yy: float
    z: Array
    y: Array

    def steadied(self) -> LeastSquares:
        """With a floor under the variances of z, as high as rounding may have left them too low.

        Where z hardly varies about a large mean, the covariance is indefinite, and the error has no least.
        """
        floor = ROUNDING_FLOOR * float(np.trace(self.zz) + self.z @ self.z) / len(self.z)
        steady = self.zz.copy()
        np.fill_diagonal(steady, steady.diagonal() + floor)
        return replace(self, zz=steady)

    def through(self, mixer: Array) -> LeastSquares:
        """The same with `z @ mixer` in place of z; mixer: `(d, columns)`."""
        return replace(self, zz=mixer.T @ self.zz @ mixer, yz=self.yz @ mixer, z=self.z @ mixer)

    def solve(self, start: Array, ridge: float) -> Array:
        """The factor, drawn toward `start` by a ridge of that share of the mean variance of z."""
        amount = ridge * np.trace(self.zz) / len(self.zz) + np.finfo(float).tiny
        try:
            root = linalg.cho_factor(self.zz + amount * np.eye(len(self.zz)), check_finite=False)
        except linalg.LinAlgError:  # too small a ridge for moments that rounding left indefinite
            return start
        right = (self.yz + amount * start).T
        return np.asarray(linalg.cho_solve(root, right, check_finite=False)).T

    def reduced(self, factor: Array, rank: int) -> tuple[Array, Array]:
        """`(left, right)`, whose product is nearest to the factor on z (reduced-rank regression).

        With `zz = S S^T` that is the cut of `factor @ S` behind its leading singular vectors; left is
        orthonormal where there are fewer outputs than columns of z. Source: Izenman (1975).
        """
        root = cholesky(self.zz, floor=MIN_VARIANCE)
        seen = factor @ root
        if len(factor) <= factor.shape[1]:
            left = singular_vectors(seen, rank)
            return left, left.T @ factor
        right = singular_vectors(seen.T, rank)
        return seen @ right, linalg.solve_triangular(root, right, trans="T", lower=True, check_finite=False).T

    def bias(self, factor: Array) -> Array:
        """What brings the mean to where it belongs."""
        bias: Array = self.y - factor @ self.z
        return bias

    def loss(self, factor: Array, bias: Array) -> float:
        """Mean squared error."""
        off = self.bias(factor) - bias
        return float(self.yy - 2 * np.sum(factor * self.yz) + np.sum((factor @ self.zz) * factor) + off @ off)
