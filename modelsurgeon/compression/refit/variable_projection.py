"""All factors of a chain fitted together: least squares in which the last is always the best for the others.

On rows with moments C = E[x x^T] and D = E[y x^T] the error of the weight W that the factors multiply to is

    tr(W C W^T) - 2 tr(W D^T) + E[y^T y].

Given the others, the last factor is the solution of a linear problem. Put in, it leaves a function of the
others, whose gradient is that of the error at the solution: variable projection (Golub and Pereyra, 1973).
L-BFGS goes down it. W is linear in every factor, so the gradient of one is that of W times the others.

All is done in coordinates in which the channels are white: in others every step would look to the large ones.
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
from modelsurgeon.linalg import cholesky, solve_factor, times_factor
from modelsurgeon.linalg.least_squares import LeastSquares

MAX_ITERATIONS = 100
MAX_OPERATIONS = 2e11  # multiplications: as many steps as they are enough for
CHECK_EVERY = 10  # steps from one look at the rows that judge to the next
MAX_INTERMEDIATE_SIZE = 2**40  # numbers: whatever lies between two products, which are slow without
VARIANCE_FLOOR = 1e-4  # of the mean variance, under that of every channel
AXIS_LETTERS, RANK_LETTERS = (
    "uvwxyz",
    "abcdefgh",
)  # subscripts of the kernel, and of the channels between two factors


def fit_by_variable_projection(
    chain: Sequence[Layer], problem: LeastSquares, checks: LeastSquares, ridge: float, *, effort: float = 1.0
) -> list[Layer]:
    """A chain without groups or bias, fitted to a problem on the patches of its layer.

    ridge: of the last factor, toward what it is; a share of the mean variance of what that is fed. checks:
    the same on other rows: the outcome is where the search does best on those. effort: a share of the steps.
    """
    root = cholesky(_channels(problem.zz, chain[0].in_channels), VARIANCE_FLOOR)
    white = [replace(chain[0], weight=times_factor(chain[0].weight.astype(np.float64), root, 1)), *chain[1:]]
    search = _Search(white, _whitened(problem.steadied(), root), ridge)

    def seen(x: Array) -> tuple[float, list[Layer]]:
        first, *others = search.chain(x)
        made = [replace(first, weight=solve_factor(first.weight, root, 1)), *others]
        weight = compose(made).weight
        factor = weight.reshape(len(weight), -1)
        return checks.loss(factor, problem.bias(factor)), made

    return _best_on_validation(search, seen, max(1, round(effort * search.steps)))


def _best_on_validation(
    search: _Search, seen: Callable[[Array], tuple[float, list[Layer]]], most: int
) -> list[Layer]:
    """What does best on the rows that judge, of what the search comes by; it ends where that grows again."""
    best = seen(search.start)
    steps = count(1)

    def look(x: Array) -> None:
        nonlocal best
        if next(steps) % CHECK_EVERY == 0:
            now = seen(x)
            if now[0] >= best[0]:
                raise StopIteration
            best = now

    with suppress(linalg.LinAlgError):
        end, *_ = optimize.fmin_l_bfgs_b(search, search.start, callback=look, maxiter=most)
        best = min(best, seen(end), key=lambda each: each[0])
    return best[1]


class _Search:
    """The error as a function of all factors but the last, their entries one after another."""

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
        """Error and gradient, both as shares of the variance of y."""
        front = self._fronts(x)
        mixer = self._mixer(front)
        seen = self._problem.zz @ mixer
        inner, cross = mixer.T @ seen, self._problem.yz @ mixer
        last = self._solved(inner, cross)
        off = last - self._pull
        error = self._problem.yy - 2 * np.sum(last * cross) + np.sum((last @ inner) * last)
        slope = 2 * (last @ seen.T - self._problem.yz)
        factors = [*(link.weight for link in front), last]
        slopes = [self._form.gradient(factors, slope, place).ravel() for place in range(len(front))]
        loss = error + self._ridge * np.sum(off * off)
        return float(loss) / self._scale, np.concatenate(slopes) / self._scale

    def chain(self, x: Array) -> list[Layer]:
        """All factors, the last as it is best for the others."""
        front = self._fronts(x)
        mixer = self._mixer(front)
        last = self._solved(mixer.T @ self._problem.zz @ mixer, self._problem.yz @ mixer)
        return [*front, replace(self._last, weight=last.reshape(self._last.weight.shape))]

    def _fronts(self, x: Array) -> list[Layer]:
        parts = zip(self._front, np.split(x, self._ends), strict=True)
        return [replace(link, weight=part.reshape(link.weight.shape)) for link, part in parts]

    def _mixer(self, front: Sequence[Layer]) -> Array:
        """What the factors make of a patch for the last one: `(columns, z)`."""
        return patch_mixers(self._whole, compose(front), self._last)[0]

    def _solved(self, inner: Array, cross: Array) -> Array:
        root = linalg.cho_factor(inner + self._ridge * np.eye(len(inner)), check_finite=False)
        right = (cross + self._ridge * self._pull).T
        return np.asarray(linalg.cho_solve(root, right, check_finite=False)).T


@dataclass(frozen=True, kw_only=True)
class EinsumForm:
    """How factors multiply to a weight, as subscripts of `numpy.einsum`: of each factor, and of the weight.

    sizes: of every subscript. Axes on which no factor has taps have none.
    """

    terms: Sequence[str]
    whole: str
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, chain: Sequence[Layer]) -> EinsumForm:
        """Of a chain in the place of a layer without groups; a depthwise factor has one channel axis."""
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
        """Of one factor, from that of the weight."""
        rest = [i for i in range(len(factors)) if i != place]
        arrays = [self._shaped(whole, self.whole), *(self._shaped(factors[i], self.terms[i]) for i in rest)]
        inputs = ",".join([self.whole, *(self.terms[i] for i in rest)])
        found: Array = np.einsum(
            f"{inputs}->{self.terms[place]}", *arrays, optimize=("greedy", MAX_INTERMEDIATE_SIZE)
        )
        return found

    def _shaped(self, array: Array, term: str) -> Array:
        return array.reshape([self.sizes[name] for name in term])


def _channels(covariance: Array, channels: int) -> Array:
    """Covariance of the channels, over all taps, from that of patches."""
    taps = len(covariance) // channels
    summed: Array = np.einsum("iaja->ij", covariance.reshape(channels, taps, channels, taps))
    return summed / taps


def _whitened(problem: LeastSquares, root: Array) -> LeastSquares:
    """The problem on patches whose channels are white."""
    channels = len(root)
    shape = (channels, len(problem.zz) // channels)
    zz = problem.zz.reshape(shape + shape)
    for axis in (0, 2):
        zz = solve_factor(zz, root, axis, transposed=True)
    yz = solve_factor(problem.yz.reshape(-1, *shape), root, 1, transposed=True)
    return replace(problem, zz=zz.reshape(problem.zz.shape), yz=yz.reshape(problem.yz.shape))
