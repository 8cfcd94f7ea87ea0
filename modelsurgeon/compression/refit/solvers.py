"""A chain fitted to rows: its last factor, both of a product, or all of them.

With x the rows that the chain is fed and y what is to come out, the last factor is
`B = (C_yz + l B0) (C_zz + l I)^-1`, where z is what the factors before it make of x, and the bias is
`mean(y) - B mean(z)`. Rows that nothing was fitted to choose the ridge l.

Of a product whose first factor takes the whole patch both are fitted, by reduced-rank regression; of any
other chain all factors, see `descent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelsurgeon.compression.refit.variable_projection import fit_by_variable_projection
from modelsurgeon.factorize import compose
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import patch_mixers
from modelsurgeon.linalg import single_blas_thread
from modelsurgeon.linalg.least_squares import LeastSquares, RegressionSums

Chain = Sequence[Layer]
Problems = Sequence[LeastSquares]  # one for each group

NO_CHANGE_RIDGE = float("inf")  # the ridge that leaves a factor as it is
NO_RIDGE = 0  # of any size on one thread: those of numpy and scipy would wait for each other at every product
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of z


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedChain:
    """A fitted chain. before, error: of the outputs in the cut net, relative, without and with the fit."""

    chain: Sequence[Layer]
    before: float
    error: float
    ridge: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRows:
    """What a layer's chain is fitted to. learnt, judged: for each group, the rows that teach and that judge.

    energy: of the answers to the latter. centred: means go into the bias.
    """

    learnt: Problems
    judged: Problems
    energy: float
    centred: bool

    @classmethod
    def of(
        cls, learnt: Sequence[RegressionSums], judged: Sequence[RegressionSums], *, centred: bool
    ) -> FitRows:
        """Of what was gathered, group by group."""
        both = zip(judged, learnt, strict=True)
        return cls(
            learnt=[sums.problem(centred=centred) for sums in learnt],
            judged=[sums.problem(centred=centred) for sums in judged],
            energy=sum(sums.energy(other, centred=centred) for sums, other in both),
            centred=centred,
        )

    def through(self, mixing: Sequence[Array]) -> FitRows:
        """The same rows as what mixers `(columns, z)`, one a group, make of them."""
        sides = (self.learnt, self.judged)
        seen = ([p.through(m) for p, m in zip(side, mixing, strict=True)] for side in sides)
        learnt, judged = seen
        return replace(self, learnt=learnt, judged=judged)


def fit_last(layer: Layer, chain: Chain, rows: FitRows) -> FittedChain:
    """The last factor fitted, to rows of what the factors before it make of what the layer is fed."""
    with single_blas_thread(NO_RIDGE):
        ridge, made = _fit_last_factor(layer, chain, rows)
        factors = [_Factor.of(layer, each[-1]) for each in (chain, made)]
        return _if_better(rows, chain, made, ridge, factors)


def fit_all(layer: Layer, chain: Chain, rows: FitRows, *, effort: float = 1.0) -> FittedChain:
    """All factors fitted, to rows of what the layer is fed. effort: see `fit_by_variable_projection`."""
    product = len(chain) == 2 and chain[-1].is_pointwise
    with single_blas_thread(NO_RIDGE):
        ridge, made = (
            _fit_product(layer, chain, rows) if product else _fit_all_factors(layer, chain, rows, effort)
        )
        factors = [_Factor.of(layer, compose(each)) for each in (chain, made)]
        return _if_better(rows, chain, made, ridge, factors)


def _if_better(
    rows: FitRows, chain: Chain, made: Chain, ridge: float, factors: Sequence[_Factor]
) -> FittedChain:
    """What was made, where that does better on the rows that judge; factors: those of both."""
    before, after = (_loss(rows.judged, factor) for factor in factors)
    return FittedChain(
        chain=made if after < before else chain,
        before=_share(before, rows.energy),
        error=_share(min(after, before), rows.energy),
        ridge=ridge if after < before else NO_CHANGE_RIDGE,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factor:
    """A factor, group by group: weights `(out, z)`, and biases less those of the layer."""

    weights: Sequence[Array]
    biases: Sequence[Array]

    @classmethod
    def of(cls, layer: Layer, link: Layer) -> _Factor:
        """The last link of a chain in the layer's place, or the layer that the chain equals."""
        return cls(
            weights=[w.reshape(len(w), -1).astype(np.float64) for w in np.split(link.weight, layer.groups)],
            biases=np.split(_or_zero(link) - _or_zero(layer), layer.groups),
        )


def _best_ridge(problems: Problems, checks: Problems, start: _Factor) -> tuple[float, _Factor]:
    """The solution with the ridge that does best on samples that nothing was fitted to, and that ridge."""
    tried = {NO_CHANGE_RIDGE: start} | {ridge: _solve(problems, start, ridge) for ridge in RIDGES}
    best = min(tried, key=lambda ridge: _loss(checks, tried[ridge]))
    return best, tried[best]


def _solve(problems: Problems, start: _Factor, ridge: float) -> _Factor:
    weights = [p.solve(w, ridge) for p, w in zip(problems, start.weights, strict=True)]
    return _Factor(weights=weights, biases=[p.bias(w) for p, w in zip(problems, weights, strict=True)])


def _fit_last_factor(layer: Layer, chain: Chain, rows: FitRows) -> tuple[float, list[Layer]]:
    """The last factor fitted; the rows are of what that is fed."""
    ridge, best = _best_ridge(rows.learnt, rows.judged, _Factor.of(layer, chain[-1]))
    return ridge, [*chain[:-1], _link(layer, chain[-1], best, rows)]


def _fit_product(layer: Layer, chain: Chain, rows: FitRows) -> tuple[float, list[Layer]]:
    """The product of two matrices that is nearest to a fitted layer, group by group."""
    ridge, whole = _best_ridge(rows.learnt, rows.judged, _Factor.of(layer, layer))
    rank = len(chain[0].weight) // layer.groups
    halves = [p.reduced(w, rank) for p, w in zip(rows.learnt, whole.weights, strict=True)]
    biases = [p.bias(left @ right) for p, (left, right) in zip(rows.learnt, halves, strict=True)]
    first = np.concatenate([right for _, right in halves]).reshape(chain[0].weight.shape)
    last = _Factor(weights=[left for left, _ in halves], biases=biases)
    return ridge, [
        replace(chain[0], weight=first.astype(chain[0].weight.dtype)),
        _link(layer, chain[-1], last, rows),
    ]


def _fit_all_factors(layer: Layer, chain: Chain, rows: FitRows, effort: float) -> tuple[float, list[Layer]]:
    """The last factor fitted, then all of them together with the same ridge, group by group."""
    ridge, made = _fit_last_factor(
        layer, chain, rows.through(patch_mixers(layer, compose(chain[:-1]), chain[-1]))
    )
    if ridge == NO_CHANGE_RIDGE:
        return ridge, made
    parts = zip(*(_split(link, layer.groups) for link in made), strict=True)
    each = zip(parts, rows.learnt, rows.judged, strict=True)
    found = zip(*(fit_by_variable_projection(*group, ridge, effort=effort) for group in each), strict=True)
    joined = [_joined(link, groups) for link, groups in zip(made, found, strict=True)]
    weights = _Factor.of(layer, compose(joined)).weights
    biases = [p.bias(w) for p, w in zip(rows.learnt, weights, strict=True)]
    last = replace(_Factor.of(layer, joined[-1]), biases=biases)
    return ridge, [*joined[:-1], _link(layer, joined[-1], last, rows)]


def _split(link: Layer, groups: int) -> list[Layer]:
    """A link of a grouped layer's chain, as those of its groups."""
    parts = np.split(link.weight, groups)
    return [replace(link, weight=part, bias=None, groups=link.groups // groups) for part in parts]


def _joined(link: Layer, parts: Sequence[Layer]) -> Layer:
    """The link with the weights of its groups' links."""
    return replace(link, weight=np.concatenate([p.weight for p in parts]).astype(link.weight.dtype))


def _loss(problems: Problems, factor: _Factor) -> float:
    parts = zip(problems, factor.weights, factor.biases, strict=True)
    return sum(problem.loss(weight, bias) for problem, weight, bias in parts)


def _link(layer: Layer, last: Layer, factor: _Factor, rows: FitRows) -> Layer:
    """The last link with new numbers."""
    dtype = last.weight.dtype
    weight = np.concatenate(factor.weights).reshape(last.weight.shape).astype(dtype)
    bias = (np.concatenate(factor.biases) + _or_zero(layer)).astype(dtype) if rows.centred else last.bias
    return replace(last, weight=weight, bias=bias)


def _or_zero(layer: Layer) -> Array:
    return np.zeros(layer.out_channels) if layer.bias is None else layer.bias


def _share(loss: float, energy: float) -> float:
    return float(np.sqrt(max(0.0, loss) / energy)) if energy > 0 else 0.0
