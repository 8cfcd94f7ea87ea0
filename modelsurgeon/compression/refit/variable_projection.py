"""All factors of a chain fitted together by variable projection: the last is always optimal for the others.

On rows with moments C = E[x x^T] and D = E[y x^T] the error of the weight W that the factors multiply to is

    tr(W C W^T) - 2 tr(W D^T) + E[y^T y].

Given the others, the last factor is the solution of a linear problem. Substituted, it leaves a function of
the others, whose gradient is that of the error at the solution: variable projection (Golub and Pereyra,
1973). L-BFGS minimizes it. W is linear in every factor, so the gradient of one is that of W times the others.

The channels are whitened first: else channels of large variance would dominate every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from scipy import linalg, optimize

from modelsurgeon.factorize import compose
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.patches import patch_mixers
from modelsurgeon.linalg import VARIANCE_FLOOR, cholesky, solve_factor, times_factor
from modelsurgeon.linalg.least_squares import LeastSquares

MAX_ITERATIONS = 100
MAX_OPERATIONS = 2e11  # multiplications of all iterations, which limit their number
STEPS_PER_CHECK = 10  # steps from one evaluation on the validation rows to the next
MAX_INTERMEDIATE_SIZE = 2**40  # numbers in an einsum's intermediates: no limit in practice
AXIS_LETTERS, RANK_LETTERS = "uvwxyz", "abcdefgh"  # einsum subscripts of kernel axes, and of inner channels


def fit_by_variable_projection(
    chain: Sequence[Layer],
    problem: LeastSquares,
    validation: LeastSquares,
    ridge: float,
    *,
    effort: float = 1.0,
) -> list[Layer]:
    """A chain without groups or bias, fitted to a problem on the patches of its layer.

    validation: the same problem on other rows; the result is the chain with the least loss on it. ridge: on
    the change of the last factor, as a share of the mean variance of that factor's inputs. effort: share of
    the steps to take. Raises LinAlgError where the covariance is too ill-conditioned for a first step.
    """
    root = cholesky(_channel_covariance(problem.zz, chain[0].in_channels), VARIANCE_FLOOR)
    white = [replace(chain[0], weight=times_factor(chain[0].weight.astype(np.float64), root, 1)), *chain[1:]]
    search = _Search(white, _whiten_channels(problem.with_variance_floor(), root), ridge)

    def validated(x: Array) -> tuple[float, list[Layer]]:
        first, *others = search.chain(x)
        fitted = [replace(first, weight=solve_factor(first.weight, root, 1)), *others]
        weight = compose(fitted).weight
        factor = weight.reshape(len(weight), -1)
        return validation.loss(factor, problem.bias(factor)), fitted

    return _best_on_validation(search, validated, max(1, round(effort * search.steps)))


def _best_on_validation(
    search: _Search, validated: Callable[[Array], tuple[float, list[Layer]]], max_steps: int
) -> list[Layer]:
    """The chain of least validation loss among those of the search, which stops where that loss grows.

    validated: from the search's variables to the validation loss and the chain.
    """
    best = validated(search.start)
    steps = count(1)

    def check(x: Array) -> None:
        nonlocal best
        if next(steps) % STEPS_PER_CHECK == 0:
            current = validated(x)
            if current[0] >= best[0]:
                raise StopIteration
            best = current

    with suppress(linalg.LinAlgError):
        end, *_ = optimize.fmin_l_bfgs_b(search, search.start, callback=check, maxiter=max_steps)
        best = min(best, validated(end), key=lambda result: result[0])
    return best[1]


class _Search:
    """The training error as a function of all factors but the last, whose entries form one vector."""

    def __init__(self, chain: Sequence[Layer], problem: LeastSquares, ridge: float) -> None:
        *front, last = (replace(link, weight=link.weight.astype(np.float64)) for link in chain)
        self._front, self._last, self._whole = front, last, compose(chain)
        self._form = EinsumForm.of(chain)
        self._problem = problem
        self._scale = problem.yy or 1.0
        self._pull = last.weight.reshape(len(last.weight), -1)
        self._ends = np.cumsum([link.weight.size for link in front])[:-1]
        self.start: Array = np.concatenate([link.weight.ravel() for link in front])
        mixer = self._mixer(front)
        inner = mixer.T @ problem.zz @ mixer
        self._ridge = ridge * np.trace(inner) / len(inner) + np.finfo(float).tiny
        self.steps = int(np.clip(MAX_OPERATIONS / (len(problem.zz) * mixer.size), 1, MAX_ITERATIONS))

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Error and gradient at the vector of entries, both divided by the variance of y."""
        front = self._fronts(x)
        mixer = self._mixer(front)
        mixed = self._problem.zz @ mixer
        inner, cross = mixer.T @ mixed, self._problem.yz @ mixer
        last = self._solved(inner, cross)
        off = last - self._pull
        error = self._problem.yy - 2 * np.sum(last * cross) + np.sum((last @ inner) * last)
        slope = 2 * (last @ mixed.T - self._problem.yz)
        factors = [*(link.weight for link in front), last]
        slopes = [self._form.gradient(factors, slope, place).ravel() for place in range(len(front))]
        loss = error + self._ridge * np.sum(off * off)
        return float(loss) / self._scale, np.concatenate(slopes) / self._scale

    def chain(self, x: Array) -> list[Layer]:
        """All factors, the last one optimal for the others."""
        front = self._fronts(x)
        mixer = self._mixer(front)
        last = self._solved(mixer.T @ self._problem.zz @ mixer, self._problem.yz @ mixer)
        return [*front, replace(self._last, weight=last.reshape(self._last.weight.shape))]

    def _fronts(self, x: Array) -> list[Layer]:
        """The factors before the last, from the vector of their entries."""
        parts = zip(self._front, np.split(x, self._ends), strict=True)
        return [replace(link, weight=part.reshape(link.weight.shape)) for link, part in parts]

    def _mixer(self, front: Sequence[Layer]) -> Array:
        """The matrix `(columns, z)` that maps a patch to the inputs of the last factor."""
        return patch_mixers(self._whole, compose(front), self._last)[0]

    def _solved(self, inner: Array, cross: Array) -> Array:
        """The last factor `(out, z)`, by ridge regression toward its start."""
        root = linalg.cho_factor(inner + self._ridge * np.eye(len(inner)), check_finite=False)
        right = (cross + self._ridge * self._pull).T
        return np.asarray(linalg.cho_solve(root, right, check_finite=False)).T


@dataclass(frozen=True, kw_only=True)
class EinsumForm:
    """The product of factors to a weight, as subscripts of `numpy.einsum`.

    terms: of each factor. whole: of the weight. sizes: of every subscript. Axes on which no factor has taps
    have no subscript.
    """

    terms: Sequence[str]
    whole: str
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, chain: Sequence[Layer]) -> EinsumForm:
        """The form of a chain for a layer without groups; a depthwise factor has one channel axis."""
        terms: list[str] = []
        sizes = {"i": chain[0].in_channels}
        here = "i"
        for link, ahead in zip(chain, [*RANK_LETTERS[: len(chain) - 1], "o"], strict=True):
            taps = {axis: size for axis, size in zip(AXIS_LETTERS, link.kernel, strict=False) if size > 1}
            channels = here if link.groups > 1 else ahead + here
            here = channels[0]
            sizes |= {here: link.out_channels, **taps}
            terms.append(channels + "".join(taps))
        held = [axis for axis in AXIS_LETTERS if axis in sizes]
        return cls(terms=terms, whole="".join(["oi", *held]), sizes=sizes)

    def gradient(self, factors: Sequence[Array], whole: Array, place: int) -> Array:
        """The gradient of the factor at `place`, from the gradient `whole` of the weight."""
        rest = [i for i in range(len(factors)) if i != place]
        arrays = [self._shaped(whole, self.whole), *(self._shaped(factors[i], self.terms[i]) for i in rest)]
        inputs = ",".join([self.whole, *(self.terms[i] for i in rest)])
        found: Array = np.einsum(
            f"{inputs}->{self.terms[place]}", *arrays, optimize=("greedy", MAX_INTERMEDIATE_SIZE)
        )
        return found

    def _shaped(self, array: Array, term: str) -> Array:
        return array.reshape([self.sizes[name] for name in term])


def _channel_covariance(covariance: Array, channels: int) -> Array:
    """Covariance `(channels, channels)` averaged over the taps, from that of patches `(columns, columns)`."""
    taps = len(covariance) // channels
    summed: Array = np.einsum("iaja->ij", covariance.reshape(channels, taps, channels, taps))
    return summed / taps


def _whiten_channels(problem: LeastSquares, root: Array) -> LeastSquares:
    """The problem on patches with whitened channels. root: Cholesky factor of the channels' covariance."""
    channels = len(root)
    shape = (channels, len(problem.zz) // channels)
    zz = problem.zz.reshape(shape + shape)
    for axis in (0, 2):
        zz = solve_factor(zz, root, axis, transposed=True)
    yz = solve_factor(problem.yz.reshape(-1, *shape), root, 1, transposed=True)
    return replace(problem, zz=zz.reshape(problem.zz.shape), yz=yz.reshape(problem.yz.shape))
