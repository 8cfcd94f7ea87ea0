"""Least squares of a chain's factors: what a layer gave before, from what the cut net feeds it now.

With x the rows that the chain is fed and y what the original layer gave for the same samples, the chain's
last factor is `B = (C_yz + l B0) (C_zz + l I)^-1`, where z is what the factors before it make of x, and the
bias is `mean(y) - B mean(z)`. Layers are fitted in the order in which they run, so each repairs what those
before it broke (Zhang et al., 2015, arXiv:1505.06798, without the term for the non-linearity).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from modelsurgeon.calibrate import Calibration
from modelsurgeon.data import Batches
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import compose, relative_error
from modelsurgeon.layer import Array, Layer
from modelsurgeon.patches import drawn, output_places, patches_at
from modelsurgeon.plan import Plan
from modelsurgeon.progress import Progress, counted
from modelsurgeon.regression import Problem, Sums
from modelsurgeon.surgery import Edit, Patient, put, told

KEPT = float("inf")  # the ridge that leaves a factor as it is
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of z
HELD_OUT = 4  # every so-many-th feed judges the ridge, and nothing is fitted to it
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
            fit = refit(view.layer, chain, pairs(), feeds.samples, centred=view.centred, seed=seed)
            chain = list(fit.chain)
        put(site, step, chain)
        edit = told(site, view.layer, step, chain, relative_error(view.layer, chain))
        edits.append(edit if fit is None else replace(edit, output_error=fit.error))
    return edits


def refit(
    layer: Layer,
    chain: Sequence[Layer],
    pairs: Iterable[tuple[Array, Array]],
    samples: int,
    *,
    centred: bool = True,
    seed: int = 0,
) -> Fit:
    """The chain with its last factor and, where `centred`, its bias fitted.

    pairs: inputs `(n, channels, *space)` of the original layer and of the chain, for the same samples.
    samples: how many those are in all.
    """
    learnt, judged = _sums(layer, chain, pairs, samples, seed)
    last, groups = chain[-1], layer.groups
    start = _Factor(
        weights=[w.reshape(len(w), -1).astype(np.float64) for w in np.split(last.weight, groups)],
        biases=np.split(_or_zero(last) - _or_zero(layer), groups),
    )
    checks = [sums.problem(centred=centred) for sums in judged]
    tried: dict[float, float] = {KEPT: _loss(checks, start)}
    for ridge in RIDGES:
        tried[ridge] = _loss(checks, _solved(learnt, start, ridge, centred=centred))
    ridge = min(tried, key=lambda r: tried[r])
    best = start if ridge == KEPT else _solved(learnt, start, ridge, centred=centred)
    energy = sum(sums.energy(other, centred=centred) for sums, other in zip(judged, learnt, strict=True))
    return Fit(
        chain=[*chain[:-1], _link(layer, last, best, centred=centred)],
        before=_share(tried[KEPT], energy),
        error=_share(tried[ridge], energy),
        ridge=ridge,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factor:
    """The last factor, group by group: weights `(out, z)`, and biases less those of the layer."""

    weights: Sequence[Array]
    biases: Sequence[Array]


def _solved(sums: Sequence[Sums], start: _Factor, ridge: float, *, centred: bool) -> _Factor:
    problems = [each.problem(centred=centred) for each in sums]
    weights = [p.solve(w, ridge) for p, w in zip(problems, start.weights, strict=True)]
    return _Factor(weights=weights, biases=[p.bias(w) for p, w in zip(problems, weights, strict=True)])


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
    layer: Layer, chain: Sequence[Layer], pairs: Iterable[tuple[Array, Array]], samples: int, seed: int
) -> tuple[list[Sums], list[Sums]]:
    """For each group, sums over the feeds that are learnt from and over those that judge."""
    sides = _Rows(layer, chain), _Rows(layer, chain)
    rng = np.random.default_rng(seed)
    wanted = max(ROWS, ROWS_PER_COLUMN * chain[-1].weight[0].size)
    for number, (x, seen) in enumerate(pairs):
        at = drawn(output_places(layer, x), wanted, samples, rng)
        side = sides[int(number % HELD_OUT == HELD_OUT - 1)]
        side.add(patches_at(layer, x, at), patches_at(layer, seen, at))
    learnt, judged = (side.done() for side in sides)
    return learnt, judged or learnt


class _Rows:
    """Patches on their way to sums; they wait until there are enough for a quick product."""

    def __init__(self, layer: Layer, chain: Sequence[Layer]) -> None:
        groups = layer.groups
        self._mixers = _mixers(layer, compose(chain[:-1]), chain[-1])
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
        new = [Sums.of(t @ mixer, o @ weight.T) for o, t, mixer, weight in rows]
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
