"""Least squares of a chain's factors: what a layer gave before, from what the cut net feeds it now.

With x the rows that the chain is fed and y what the original layer gave for the same samples, the chain's
last factor is `B = (C_yz + l B0) (C_zz + l I)^-1`, where z is what the factors before it make of x, and the
bias is `mean(y) - B mean(z)`. Layers are fitted in the order in which they run, so each repairs what those
before it broke (Zhang et al., 2015, arXiv:1505.06798, without the term for the non-linearity).
A product of two matrices is fitted as a whole, by reduced-rank regression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from modelsurgeon.calibrate import Calibration
from modelsurgeon.data import Batches, is_check
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import compose, relative_error
from modelsurgeon.layer import Array, Layer
from modelsurgeon.moments import check_fed
from modelsurgeon.patches import drawn, output_places, patches_at
from modelsurgeon.plan import Plan
from modelsurgeon.progress import Progress, counted
from modelsurgeon.regression import Problem, Sums
from modelsurgeon.surgery import Edit, Patient, put, told

KEPT = float("inf")  # the ridge that leaves a factor as it is
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of z
ROWS = 16384  # over all samples
ROWS_PER_COLUMN = 8  # and at least so many for each column of z
HELD = 2**23  # numbers that wait for their products


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A fitted chain. before, error: of the outputs in the cut net, relative, without and with the fit."""

    chain: Sequence[Layer]
    before: float
    error: float
    ridge: float


def fitted(
    plan: Plan,
    patient: Patient,
    calibration: Calibration,
    feeds: Batches,
    *,
    seed: int = 0,
    watch: Progress | None = None,
) -> list[Edit]:
    """Do what the plan says, every chain fitted to what the layers before it hand on; one `Edit` a step.

    A chain that can't be fitted, of a transposed convolution or of a layer that is applied more than once, is
    put in as calibration alone has it.
    """
    edits = []
    stages = patient.lockstep(list(plan), feeds)
    for site, pairs in counted(stages, "fitting", len(plan), watch):
        step = plan[site.name]
        view = calibration.view(site)
        try:
            chain = view.chain(step.method, step.rank)
        except UnsupportedLayer as error:
            edits.append(Edit(layer=site.name, method=step.method, rank=step.rank, skipped=str(error)))
            continue
        fit = None
        if not view.layer.transposed and any(True for _ in pairs()):
            fit = refit(
                view.layer,
                chain,
                _checked(site.name, pairs()),
                feeds.samples,
                joint=step.method == "svd" and view.layer.is_pointwise,
                centred=view.centred,
                seed=seed,
            )
            chain = list(fit.chain)
        put(site, step, chain)
        edit = told(site, view.layer, step, chain, relative_error(view.layer, chain))
        edits.append(edit if fit is None else replace(edit, output_error=fit.error))
    return edits


def _checked(layer: str, pairs: Iterable[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    for ours, theirs in pairs:
        check_fed(layer, ours)
        yield ours, theirs


def refit(
    layer: Layer,
    chain: Sequence[Layer],
    pairs: Iterable[tuple[Array, Array]],
    samples: int,
    *,
    joint: bool = False,
    centred: bool = True,
    seed: int = 0,
) -> Fit:
    """The chain with its last factor and, where `centred`, its bias fitted.

    pairs: inputs `(n, channels, *space)` of the original layer and of the chain, for the same samples.
    samples: how many those are in all. joint: the chain is a product of two matrices, and both are fitted.
    """
    last = layer if joint else chain[-1]
    learnt, judged = _sums(layer, [] if joint else chain[:-1], last, pairs, samples, seed)
    problems, checks = ([sums.problem(centred=centred) for sums in side] for side in (learnt, judged))
    start = _Factor.of(layer, compose(chain) if joint else last)
    ridge, best = _ridged(problems, checks, _Factor.of(layer, last))
    if joint:
        made = _product(layer, chain, problems, best, centred=centred)
        best = _Factor.of(layer, compose(made))
    else:
        made = [*chain[:-1], _link(layer, last, best, centred=centred)]
    before, after = _loss(checks, start), _loss(checks, best)
    energy = sum(sums.energy(other, centred=centred) for sums, other in zip(judged, learnt, strict=True))
    return Fit(
        chain=made if after < before else chain,
        before=_share(before, energy),
        error=_share(min(after, before), energy),
        ridge=ridge if after < before else KEPT,
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


def _ridged(problems: Sequence[Problem], checks: Sequence[Problem], start: _Factor) -> tuple[float, _Factor]:
    """The solution with the ridge that does best on samples that nothing was fitted to, and that ridge."""
    tried = {KEPT: start} | {ridge: _solved(problems, start, ridge) for ridge in RIDGES}
    best = min(tried, key=lambda ridge: _loss(checks, tried[ridge]))
    return best, tried[best]


def _solved(problems: Sequence[Problem], start: _Factor, ridge: float) -> _Factor:
    weights = [p.solve(w, ridge) for p, w in zip(problems, start.weights, strict=True)]
    return _Factor(weights=weights, biases=[p.bias(w) for p, w in zip(problems, weights, strict=True)])


def _product(
    layer: Layer, chain: Sequence[Layer], problems: Sequence[Problem], whole: _Factor, *, centred: bool
) -> list[Layer]:
    """A product of two matrices that is nearest to a fitted one, group by group."""
    rank = len(chain[0].weight) // layer.groups
    halves = [p.reduced(w, rank) for p, w in zip(problems, whole.weights, strict=True)]
    biases = [p.bias(left @ right) for p, (left, right) in zip(problems, halves, strict=True)]
    first = np.concatenate([right for _, right in halves]).reshape(chain[0].weight.shape)
    last = _Factor(weights=[left for left, _ in halves], biases=biases)
    return [
        replace(chain[0], weight=first.astype(chain[0].weight.dtype)),
        _link(layer, chain[-1], last, centred=centred),
    ]


def _loss(problems: Sequence[Problem], factor: _Factor) -> float:
    parts = zip(problems, factor.weights, factor.biases, strict=True)
    return sum(problem.loss(weight, bias) for problem, weight, bias in parts)


def _link(layer: Layer, last: Layer, factor: _Factor, *, centred: bool) -> Layer:
    """The last link with new numbers."""
    dtype = last.weight.dtype
    weight = np.concatenate(factor.weights).reshape(last.weight.shape).astype(dtype)
    bias = (np.concatenate(factor.biases) + _or_zero(layer)).astype(dtype) if centred else last.bias
    return replace(last, weight=weight, bias=bias)


def _or_zero(layer: Layer) -> Array:
    return np.zeros(layer.out_channels) if layer.bias is None else layer.bias


def _share(loss: float, energy: float) -> float:
    return float(np.sqrt(max(0.0, loss) / energy)) if energy > 0 else 0.0


def _sums(
    layer: Layer,
    before: Sequence[Layer],
    last: Layer,
    pairs: Iterable[tuple[Array, Array]],
    samples: int,
    seed: int,
) -> tuple[list[Sums], list[Sums]]:
    """For each group, sums over the feeds that are learnt from and over those that judge.

    before: what makes z for the link `last`; nothing where that is fed as the layer is.
    """
    mixers = _mixers(layer, compose(before), last) if before else [None] * layer.groups
    sides = _Rows(layer, mixers), _Rows(layer, mixers)
    rng = np.random.default_rng(seed)
    wanted = max(ROWS, ROWS_PER_COLUMN * last.weight[0].size)
    for number, (x, seen) in enumerate(pairs):
        at = drawn(output_places(layer, x), wanted, samples, rng)
        side = sides[int(is_check(number))]
        side.add(patches_at(layer, x, at), patches_at(layer, seen, at))
    learnt, judged = (side.done() for side in sides)
    return learnt, judged or learnt


class _Rows:
    """Patches on their way to sums; they wait until there are enough for a quick product."""

    def __init__(self, layer: Layer, mixers: Sequence[Array | None]) -> None:
        groups = layer.groups
        self._mixers = mixers
        self._weights = [w.reshape(len(w), -1).astype(np.float32) for w in np.split(layer.weight, groups)]
        self._waiting: list[tuple[Array, Array]] = []
        self._sums: list[Sums] = []

    def add(self, ours: Array, theirs: Array) -> None:
        """Patches of the original layer and of the chain, row for row."""
        self._waiting.append((ours.astype(np.float32, copy=False), theirs.astype(np.float32, copy=False)))
        if sum(part.size for part, _ in self._waiting) > HELD:
            self._sum()

    def done(self) -> list[Sums]:
        """Sums over all of them."""
        if self._waiting:
            self._sum()
        return self._sums

    def _sum(self) -> None:
        ours, theirs = (
            np.split(np.concatenate(part), len(self._weights), axis=1)
            for part in zip(*self._waiting, strict=True)
        )
        rows = zip(ours, theirs, self._mixers, self._weights, strict=True)
        new = [Sums.of(t if m is None else t @ m, o @ weight.T) for o, t, m, weight in rows]
        self._sums = [a + b for a, b in zip(self._sums, new, strict=True)] if self._sums else new
        self._waiting = []


def _mixers(layer: Layer, before: Layer, last: Layer) -> list[Array]:
    """For each group, the matrix `(columns, z)` that takes a patch of the layer to one of the last factor."""
    return [_mixer(part, layer.kernel, last.kernel) for part in np.split(before.weight, layer.groups)]


def _mixer(before: Array, kernel: tuple[int, ...], last: tuple[int, ...]) -> Array:
    """before: `(rank, in, *kernel)`, with one tap on each axis of which `last`, the last kernel, has more."""
    rank, into = before.shape[:2]
    whole = np.zeros((rank, *last, into, *kernel), np.float32)
    for tap in np.ndindex(*last):
        here = tuple(slice(t, t + 1) if k > 1 else slice(None) for t, k in zip(tap, last, strict=True))
        whole[(slice(None), *tap, slice(None), *here)] = before
    return whole.reshape(rank * prod(last), -1).T
