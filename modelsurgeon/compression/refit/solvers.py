"""Least-squares fits of a chain to rows: of its last factor, of both factors of a product, or of all factors.

With x the rows that the chain is fed and y the outputs wanted, the last factor is
`B = (C_yz + l B0) (C_zz + l I)^-1` and the bias `mean(y) - B mean(z)`. z is the output of the factors before
it for x, B0 the last factor before the fit, and C are covariances. The ridge l is the one with the least
error on validation rows.

In a product whose first factor takes the whole patch, both factors are fitted by reduced-rank regression; in
any other chain all factors are, see `variable_projection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from modelsurgeon.compression.refit.rows import ROWS_PER_COLUMN
from modelsurgeon.compression.refit.variable_projection import fit_by_variable_projection
from modelsurgeon.data.samples import VALIDATION_EVERY
from modelsurgeon.factorize import compose
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import patch_mixers
from modelsurgeon.linalg import single_blas_thread
from modelsurgeon.linalg.least_squares import LeastSquares, RegressionSums
from modelsurgeon.linalg.shrinkage import effective_rows, shrinkage

Chain = Sequence[Layer]
Problems = Sequence[LeastSquares]  # one for each group

NO_CHANGE_RIDGE = float("inf")  # the ridge that leaves a factor as it is
# Matrix size given to `single_blas_thread`, so that matrices of any size are multiplied on one thread: else
# the threads of numpy's BLAS and those of scipy's wait for each other at every product.
SINGLE_THREAD_SIZE = 0
RIDGE_CANDIDATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # shares of the mean variance of z


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedChain:
    """A fitted chain.

    before, error: relative error of its outputs on validation rows, without and with the fit. ridge: a share
    of the mean variance of z, or NO_CHANGE_RIDGE where the chain is unchanged.
    """

    chain: Sequence[Layer]
    before: float
    error: float
    ridge: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRows:
    """The rows that a layer's chain is fitted to. training, validation: for each group, their least squares.

    energy: mean square of the wanted outputs on the validation rows, about the mean of the training rows if
    `centred`. centred: means are subtracted and go into the bias. shares: for each group, the shrinkage of
    the training rows' covariance, 0 where there are as many as are wanted for its columns.
    """

    training: Problems
    validation: Problems
    energy: float
    centred: bool
    shares: Sequence[float]

    @classmethod
    def of(
        cls,
        training: Sequence[RegressionSums],
        validation: Sequence[RegressionSums],
        samples: int,
        *,
        centred: bool,
    ) -> FitRows:
        """The rows of which these are the sums, one for each group. samples: number that they come from."""
        both = zip(validation, training, strict=True)
        problems = [sums.problem(centred=centred) for sums in training]
        return cls(
            training=problems,
            validation=[sums.problem(centred=centred) for sums in validation],
            energy=sum(sums.energy(other, centred=centred) for sums, other in both),
            centred=centred,
            shares=[
                0.0
                if sums.count >= (1 - 1 / VALIDATION_EVERY) * ROWS_PER_COLUMN * len(sums.z)
                else shrinkage(problem.zz, effective_rows(min(samples, sums.count), sums.count))
                for sums, problem in zip(training, problems, strict=True)
            ],
        )

    def shrunk(self, answers: _Factor) -> Problems:
        """The training problems on shrunk covariances. answers: outputs for what no row shows."""
        parts = zip(self.training, answers.weights, self.shares, strict=True)
        return [problem.shrunk(weight, share) if share else problem for problem, weight, share in parts]

    def through(self, mixing: Sequence[Array]) -> FitRows:
        """The same rows multiplied by the mixers `(columns, z)`, one for each group."""
        sides = (self.training, self.validation)
        mixed = ([p.through(m) for p, m in zip(side, mixing, strict=True)] for side in sides)
        training, validation = mixed
        return replace(self, training=training, validation=validation)


def fit_last(layer: Layer, chain: Chain, rows: FitRows) -> FittedChain:
    """The chain with its last factor fitted. rows: the inputs of that factor for the layer's inputs."""
    with single_blas_thread(SINGLE_THREAD_SIZE):
        ridge, fitted = _fit_last_factor(layer, chain, rows)
        factors = [_Factor.of(layer, version[-1]) for version in (chain, fitted)]
        return _keep_if_better(rows, chain, fitted, ridge, factors)


def fit_all(layer: Layer, chain: Chain, rows: FitRows, *, effort: float = 1.0) -> FittedChain:
    """The chain with all factors fitted. rows: the layer's inputs. effort: share of the steps to take.

    On few rows, the better of two fits on the validation rows: to the covariance as it is, and shrunk.
    """
    product = len(chain) == 2 and chain[-1].is_pointwise
    versions = [rows, replace(rows, shares=[0.0] * len(rows.shares))] if any(rows.shares) else [rows]

    def fitted(version: FitRows) -> FittedChain:
        ridge, found = (
            _fit_product(layer, chain, version)
            if product
            else _fit_all_factors(layer, chain, version, effort)
        )
        factors = [_Factor.of(layer, compose(each)) for each in (chain, found)]
        return _keep_if_better(rows, chain, found, ridge, factors)

    with single_blas_thread(SINGLE_THREAD_SIZE):
        return min(map(fitted, versions), key=lambda fit: fit.error)


def _keep_if_better(
    rows: FitRows, chain: Chain, fitted: Chain, ridge: float, factors: Sequence[_Factor]
) -> FittedChain:
    """The fitted chain, or the old one where that has no larger loss on validation rows.

    factors: of the old chain and of the fitted one, which map the rows to outputs.
    """
    before, after = (_loss(rows.validation, factor) for factor in factors)
    return FittedChain(
        chain=fitted if after < before else chain,
        before=_relative_error(before, rows.energy),
        error=_relative_error(min(after, before), rows.energy),
        ridge=ridge if after < before else NO_CHANGE_RIDGE,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factor:
    """A factor, group by group: weights `(out, z)`, and biases `(out,)` less those of the layer."""

    weights: Sequence[Array]
    biases: Sequence[Array]

    @classmethod
    def of(cls, layer: Layer, link: Layer) -> _Factor:
        """From the last link of a chain in the layer's place, or from the layer that the chain equals."""
        return cls(
            weights=[w.reshape(len(w), -1).astype(np.float64) for w in np.split(link.weight, layer.groups)],
            biases=np.split(_bias_or_zero(link) - _bias_or_zero(layer), layer.groups),
        )


def _best_ridge(training: Problems, validation: Problems, start: _Factor) -> tuple[float, _Factor]:
    """The ridge whose solution has the least loss on the validation problems, and that solution."""
    solutions = {NO_CHANGE_RIDGE: start} | {
        ridge: _solve(training, start, ridge) for ridge in RIDGE_CANDIDATES
    }
    best = min(solutions, key=lambda ridge: _loss(validation, solutions[ridge]))
    return best, solutions[best]


def _solve(problems: Problems, start: _Factor, ridge: float) -> _Factor:
    """The factor of least squared error in every group, with a ridge on its distance from `start`."""
    weights = [p.solve(w, ridge) for p, w in zip(problems, start.weights, strict=True)]
    return _Factor(weights=weights, biases=[p.bias(w) for p, w in zip(problems, weights, strict=True)])


def _fit_last_factor(layer: Layer, chain: Chain, rows: FitRows) -> tuple[float, list[Layer]]:
    """The ridge, and the chain with its last factor fitted. rows: inputs of the last factor."""
    ridge, best = _best_ridge(rows.training, rows.validation, _Factor.of(layer, chain[-1]))
    return ridge, [*chain[:-1], _with_weights(layer, chain[-1], best, rows)]


def _fit_product(layer: Layer, chain: Chain, rows: FitRows) -> tuple[float, list[Layer]]:
    """The ridge, and the product of two matrices that is nearest to the fitted layer, group by group."""
    ridge, full = _best_ridge(rows.training, rows.validation, _Factor.of(layer, layer))
    rank = len(chain[0].weight) // layer.groups
    halves = [p.reduced(w, rank) for p, w in zip(rows.shrunk(full), full.weights, strict=True)]
    biases = [p.bias(left @ right) for p, (left, right) in zip(rows.training, halves, strict=True)]
    first = np.concatenate([right for _, right in halves]).reshape(chain[0].weight.shape)
    last = _Factor(weights=[left for left, _ in halves], biases=biases)
    return ridge, [
        replace(chain[0], weight=first.astype(chain[0].weight.dtype)),
        _with_weights(layer, chain[-1], last, rows),
    ]


def _fit_all_factors(layer: Layer, chain: Chain, rows: FitRows, effort: float) -> tuple[float, list[Layer]]:
    """The ridge, and the chain with its last factor fitted, then all factors together with the same ridge."""
    ridge, fitted = _fit_last_factor(
        layer, chain, rows.through(patch_mixers(layer, compose(chain[:-1]), chain[-1]))
    )
    if ridge == NO_CHANGE_RIDGE:
        return ridge, fitted
    parts = zip(*(_split_groups(link, layer.groups) for link in fitted), strict=True)
    training = rows.shrunk(_full_fit(layer, rows)) if any(rows.shares) else rows.training
    groups = zip(parts, training, rows.validation, strict=True)
    try:
        found = zip(
            *[fit_by_variable_projection(*group, ridge, effort=effort) for group in groups], strict=True
        )
    except linalg.LinAlgError:  # not positive definite to working precision
        return ridge, fitted
    joined = [_join_groups(link, parts) for link, parts in zip(fitted, found, strict=True)]
    weights = _Factor.of(layer, compose(joined)).weights
    biases = [p.bias(w) for p, w in zip(rows.training, weights, strict=True)]
    last = replace(_Factor.of(layer, joined[-1]), biases=biases)
    return ridge, [*joined[:-1], _with_weights(layer, joined[-1], last, rows)]


def _full_fit(layer: Layer, rows: FitRows) -> _Factor:
    """The layer itself, not factorized, fitted to the rows."""
    return _best_ridge(rows.training, rows.validation, _Factor.of(layer, layer))[1]


def _split_groups(link: Layer, groups: int) -> list[Layer]:
    """A link of a grouped layer's chain, split into one link for each group."""
    parts = np.split(link.weight, groups)
    return [replace(link, weight=part, bias=None, groups=link.groups // groups) for part in parts]


def _join_groups(link: Layer, parts: Sequence[Layer]) -> Layer:
    """The link with the weights of the links of its groups."""
    return replace(link, weight=np.concatenate([p.weight for p in parts]).astype(link.weight.dtype))


def _loss(problems: Problems, factor: _Factor) -> float:
    """Mean squared error, summed over outputs and groups."""
    parts = zip(problems, factor.weights, factor.biases, strict=True)
    return sum(problem.loss(weight, bias) for problem, weight, bias in parts)


def _with_weights(layer: Layer, last: Layer, factor: _Factor, rows: FitRows) -> Layer:
    """The last link with the factor's weights and, where the rows are centred, its biases."""
    dtype = last.weight.dtype
    weight = np.concatenate(factor.weights).reshape(last.weight.shape).astype(dtype)
    bias = (np.concatenate(factor.biases) + _bias_or_zero(layer)).astype(dtype) if rows.centred else last.bias
    return replace(last, weight=weight, bias=bias)


def _bias_or_zero(layer: Layer) -> Array:
    """The layer's bias `(out,)`; zeros where it has none."""
    return np.zeros(layer.out_channels) if layer.bias is None else layer.bias


def _relative_error(loss: float, energy: float) -> float:
    """Square root of loss / energy; 0 where there is no energy."""
    return float(np.sqrt(max(0.0, loss) / energy)) if energy > 0 else 0.0
