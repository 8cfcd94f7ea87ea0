"""Ridge regression and reduced-rank regression from accumulated sums, without the rows themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from modelsurgeon.layers import Array
from modelsurgeon.linalg import cholesky, singular_vectors

ROUNDING_FLOOR = 1e-6  # of the mean square: rounding of products in float32
VARIANCE_ROUNDING = 2e-15  # of the squared mean: rounding of a difference in float64
MIN_VARIANCE = 1e-9  # of the mean variance: directions of z below it count as rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionSums:
    """Sums over rows z `(n, d)` and y `(n, outputs)` for least squares of y on z; `+` joins two sets of rows.

    count: n. z: `(d,)`, y: `(outputs,)`, zz: `(d, d)`, yz: `(outputs, d)`, yy: the sum of all squares of y.
    """

    count: int
    z: Array
    y: Array
    zz: Array
    yz: Array
    yy: float

    @classmethod
    def of(cls, z: Array, y: Array) -> RegressionSums:
        """The sums of one batch of rows: products in the rows' own precision, stored in float64."""
        return cls(
            count=len(z),
            z=z.sum(axis=0, dtype=np.float64),
            y=y.sum(axis=0, dtype=np.float64),
            zz=(z.T @ z).astype(np.float64),
            yz=(y.T @ z).astype(np.float64),
            yy=float(np.square(y, dtype=np.float64).sum()),
        )

    def __add__(self, other: RegressionSums) -> RegressionSums:
        """The sums over the rows of both."""
        return RegressionSums(**{key: value + getattr(other, key) for key, value in vars(self).items()})

    def energy(self, others: RegressionSums, *, centred: bool) -> float:
        """Mean square of y about the mean of other rows if `centred`, else about zero."""
        mean = others.y / max(1, others.count) if centred else 0.0 * self.y
        return float((self.yy - 2 * mean @ self.y) / max(1, self.count) + mean @ mean)

    def problem(self, *, centred: bool) -> LeastSquares:
        """Covariances and means if `centred`; else second moments and zeros, for a layer without a bias."""
        n = max(1, self.count)
        z, y = (self.z / n, self.y / n) if centred else (0.0 * self.z, 0.0 * self.y)
        variance = self.yy / n - float(y @ y)
        return LeastSquares(
            zz=self.zz / n - np.outer(z, z), yz=self.yz / n - np.outer(y, z), yy=variance, z=z, y=y
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LeastSquares:
    """Least squares of y on z. zz `(d, d)` and yz `(outputs, d)`: covariances. yy: the summed variance of y.

    z `(d,)` and y `(outputs,)`: means.
    """

    zz: Array
    yz: Array
    yy: float
    z: Array
    y: Array

    @property
    def varies(self) -> bool:
        """Whether z varies by more than the rounding of its mean: equal rows teach nothing but the bias."""
        return bool(np.trace(self.zz) > VARIANCE_ROUNDING * (self.z @ self.z))

    def with_variance_floor(self) -> LeastSquares:
        """The same problem with the rounding error of the sums added to the variances of z.

        Where z hardly varies about a large mean, rounding leaves the covariance indefinite, and the squared
        error has no minimum.
        """
        floor = ROUNDING_FLOOR * float(np.trace(self.zz) + self.z @ self.z) / len(self.z)
        raised = self.zz.copy()
        np.fill_diagonal(raised, raised.diagonal() + floor)
        return replace(self, zz=raised)

    def shrunk(self, factor: Array, share: float) -> LeastSquares:
        """The same problem with `share` of the mean variance of z added to z in every direction.

        For what is added, y is `factor @ z`: directions that few rows show keep the answer of the factor
        `(outputs, d)`.
        """
        added = share * float(np.trace(self.zz)) / len(self.zz)
        return replace(
            self,
            zz=self.zz + added * np.eye(len(self.zz)),
            yz=self.yz + added * factor,
            yy=self.yy + added * float(np.square(factor).sum()),
        )

    def through(self, mixer: Array) -> LeastSquares:
        """The same with `z @ mixer` in place of z; mixer: `(d, columns)`."""
        return replace(self, zz=mixer.T @ self.zz @ mixer, yz=self.yz @ mixer, z=self.z @ mixer)

    def solve(self, start: Array, ridge: float) -> Array:
        """The factor `(outputs, d)` of least squared error plus a ridge on its distance from `start`.

        ridge: a share of the mean variance of z. `start` itself where z doesn't vary, and
        where the system isn't positive definite.
        """
        if not self.varies:
            return start
        amount = ridge * np.trace(self.zz) / len(self.zz) + np.finfo(float).tiny
        try:
            root = linalg.cho_factor(self.zz + amount * np.eye(len(self.zz)), check_finite=False)
        except linalg.LinAlgError:  # too small a ridge for moments that rounding left indefinite
            return start
        right = (self.yz + amount * start).T
        return np.asarray(linalg.cho_solve(root, right, check_finite=False)).T

    def reduced(self, factor: Array, rank: int) -> tuple[Array, Array]:
        """`left (outputs, rank)` and `right (rank, d)`: their product is nearest to the factor on z.

        With `zz = S S^T` that is the truncated SVD of `factor @ S`; left is orthonormal where there are no
        more outputs than columns of z. Source: Izenman (1975), reduced-rank regression. Where z doesn't vary,
        every direction counts alike.
        """
        root = cholesky(self.zz, floor=MIN_VARIANCE) if self.varies else np.eye(len(self.zz))
        whitened = factor @ root
        if len(factor) <= factor.shape[1]:
            left = singular_vectors(whitened, rank)
            return left, left.T @ factor
        right = singular_vectors(whitened.T, rank)
        return whitened @ right, linalg.solve_triangular(
            root, right, trans="T", lower=True, check_finite=False
        ).T

    def bias(self, factor: Array) -> Array:
        """The bias `(outputs,)` with which the factor's mean output is the mean of y."""
        bias: Array = self.y - factor @ self.z
        return bias

    def loss(self, factor: Array, bias: Array) -> float:
        """Mean squared error, summed over the outputs."""
        off = self.bias(factor) - bias
        return float(self.yy - 2 * np.sum(factor * self.yz) + np.sum((factor @ self.zz) * factor) + off @ off)
