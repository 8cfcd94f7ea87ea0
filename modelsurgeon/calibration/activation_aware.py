"""Factorizations that know what a layer is fed: least error of its outputs, not of its weight.

The error of the outputs is `tr((W - Wa) C (W - Wa)^T)` with C the covariance of the patches. With `C = S S^T`
that is the plain error of `(W - Wa) S`: what cuts weights cuts whitened weights as well, and the factors that
hold a whitened axis are unwhitened afterwards.

- For a matrix the outcome is the optimum. Where it has fewer outputs than inputs the same optimum is found
  from the covariance of the outputs, `Wa = U U^T W` with U its leading eigenvectors, without an inverse
  (Zhang et al., 2015, arXiv:1505.06798).
- `channels` leaves inputs out, which no whitened axis shows: it is done on the second moments themselves.
- For a kernel, C is taken as the Kronecker product of the covariance of the channels and those of the taps
  along each axis. The whitened weight is a kernel still, with all the structure that `spatial-svd`, `tucker2`
  and `cp` make use of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modelsurgeon.calibration.moments import InputMoments, Moments
from modelsurgeon.factorize import METHODS, Rank, compose
from modelsurgeon.factorize.channel_selection import CHANNELS, Elimination, best_weights, eliminate, selection
from modelsurgeon.factorize.method import split_groups
from modelsurgeon.factorize.svd import input_unfolded
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import cholesky, singular_vectors, solve_factor, times_factor

VARIANCE_FLOOR = 1e-4  # of the mean variance, added to each: what no sample showed may still come
MAX_SHRINKAGE = 0.95  # of a covariance that is taken to be chance


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedLayer:
    """A layer as calibration sees it; without `inputs`, as its weight alone shows it."""

    layer: Layer
    inputs: InputMoments | None = None

    def error(self, method: str, ranks: Sequence[Rank]) -> list[float]:
        """Relative error of the outputs at each rank, of the weight where nothing is known of the inputs."""
        if self._by_weight(method):
            return METHODS[method].error(self.layer, ranks)
        if method != CHANNELS.name:
            return METHODS[method].error(self._whitened, ranks)
        lost = np.sum([each.lost for each in self._eliminations], axis=0)
        return [float(np.sqrt(lost[CHANNELS.clip(self.layer, r)] / (lost[0] or 1.0))) for r in ranks]

    def sketch(self, method: str, rank: Rank) -> list[Layer]:
        """The chain's shapes without its numbers, with the bias that calibration adds."""
        chain = METHODS[method].sketch(self.layer, rank)
        if self.inputs is None or not self.centred or chain[-1].bias is not None:
            return chain
        bias = np.zeros(self.layer.out_channels, self.layer.weight.dtype)
        return [*chain[:-1], replace(chain[-1], bias=bias)]

    def chain(self, method: str, rank: Rank) -> list[Layer]:
        """The factors that take the layer's place."""
        if self.inputs is None:
            return METHODS[method](self.layer, rank)
        chain = self._factors(method, rank)
        dtype = self.layer.weight.dtype
        chain = [replace(link, weight=link.weight.astype(dtype)) for link in chain]
        return self._centred(chain) if self.centred else chain

    def _factors(self, method: str, rank: Rank) -> list[Layer]:
        sketch = METHODS[method].sketch(self.layer, rank)
        if self._by_weight(method):
            return METHODS[method](self.layer, rank)
        if self.inputs is not None and self.inputs.response:
            return self._projected(sketch)
        if method == CHANNELS.name:
            return self._selected(sketch)
        return self._unwhitened(METHODS[method](self._whitened, rank))

    def _by_weight(self, method: str) -> bool:
        """Whether nothing is known that the method could use: of outputs alone, all but a single cut."""
        if self.inputs is None or not self.inputs.response:
            return self.inputs is None
        return method == CHANNELS.name or len(METHODS[method].sketch(self.layer, 1)) != 2

    @property
    def centred(self) -> bool:
        """Whether the mean of what is lost goes into the bias. A product without one gets none."""
        return not self.layer.transposed and (self.layer.bias is not None or bool(self.layer.kernel))

    @cached_property
    def _whitened(self) -> Layer:
        """The layer whose plain error of the weight is the error of the outputs."""
        if self.inputs is None:
            return self.layer
        if self.inputs.response:
            roots = [root[:, :, *(None for _ in self.layer.kernel)] for root in self._roots]
            return replace(self.layer, weight=np.concatenate(roots), bias=None)
        parts = np.split(self.layer.weight.astype(np.float64), self.layer.groups)
        weight = np.concatenate(
            [times_factor(part, root, 1) for part, root in zip(parts, self._roots, strict=True)]
        )
        for axis, root in enumerate(self._taps):
            weight = times_factor(weight, root, 2 + axis)
        wide = self.layer.weight.dtype == np.float64
        return replace(self.layer, weight=weight.astype(np.float64 if wide else np.float32))

    @cached_property
    def _grams(self) -> list[Array]:
        """Second moments of the channels of each group, about the mean where that goes into the bias."""
        return [root @ root.T for root in self._roots]

    @cached_property
    def _eliminations(self) -> list[Elimination]:
        """For each group, the order in which its channels are best left out."""
        parts = zip(split_groups(self.layer), self._grams, strict=True)
        return [eliminate(input_unfolded(part).T, gram) for part, gram in parts]

    def _selected(self, sketch: Sequence[Layer]) -> list[Layer]:
        """Some of the channels, and the weights with which they do best for all."""
        into, kept = self.layer.weight.shape[1], len(sketch[0].weight) // self.layer.groups
        first, last = [], []
        for part, gram, each in zip(split_groups(self.layer), self._grams, self._eliminations, strict=True):
            stay = each.kept(kept)
            columns = best_weights(input_unfolded(part).T, gram, stay)
            spread = columns.reshape(part.out_channels, *part.kernel, kept)
            first.append(selection(into, stay))
            last.append(np.moveaxis(spread, -1, 1))
        weights = (np.concatenate(first), np.concatenate(last))
        return [
            replace(link, weight=weight.reshape(link.weight.shape))
            for link, weight in zip(sketch, weights, strict=True)
        ]

    def _projected(self, sketch: Sequence[Layer]) -> list[Layer]:
        """A matrix before the leading directions of its own response."""
        parts = np.split(self.layer.weight.astype(np.float64), self.layer.groups)
        kept = len(sketch[0].weight) // self.layer.groups
        bases = [singular_vectors(root, kept) for root in self._roots]
        first = [basis.T @ part.reshape(len(part), -1) for basis, part in zip(bases, parts, strict=True)]
        weights = (np.concatenate(first), np.concatenate(bases))
        return [
            replace(link, weight=weight.reshape(link.weight.shape))
            for link, weight in zip(sketch, weights, strict=True)
        ]

    def _unwhitened(self, chain: Sequence[Layer]) -> list[Layer]:
        """The chain fed with channels and taps as they are: every axis undone on the factor that holds it."""
        found = list(chain)
        parts = np.split(found[0].weight, self.layer.groups)
        undone = [solve_factor(part, root, 1) for part, root in zip(parts, self._roots, strict=True)]
        found[0] = replace(found[0], weight=np.concatenate(undone))
        for axis, root in enumerate(self._taps):
            place = next((i for i, link in enumerate(found) if link.kernel[axis] == len(root)), None)
            if place is not None and len(root) > 1:
                found[place] = replace(found[place], weight=solve_factor(found[place].weight, root, 2 + axis))
        return found

    def _centred(self, chain: list[Layer]) -> list[Layer]:
        """The chain with the mean of what it loses added to its bias."""
        layer = self.layer
        lost = layer.weight.astype(np.float64) - compose(chain).weight
        means = np.zeros((layer.groups, 0)) if self.inputs is None else self.inputs.patch
        parts = zip(np.split(lost, layer.groups), means, strict=True)
        shift = np.concatenate([part.reshape(len(part), -1) @ mean for part, mean in parts])
        bias = shift if layer.bias is None else layer.bias + shift
        return [*chain[:-1], replace(chain[-1], bias=bias.astype(layer.weight.dtype))]

    @cached_property
    def _roots(self) -> list[Array]:
        """Cholesky factors of what is known of the channels, one for each group."""
        known: Sequence[Moments] = () if self.inputs is None else self.inputs.channels
        samples = 1 if self.inputs is None else self.inputs.samples
        found = []
        for moments in known:
            covariance = moments.covariance if self.centred else moments.second
            # The rows of one sample are alike: they tell more than one row would, and less than so many.
            told = (samples * max(samples, moments.count)) ** 0.5
            found.append(cholesky(covariance, VARIANCE_FLOOR + shrinkage(covariance, told)))
        return found

    @cached_property
    def _taps(self) -> list[Array]:
        """Cholesky factors of the taps' correlations along each axis."""
        known: Sequence[Array] = () if self.inputs is None else self.inputs.taps
        return [
            cholesky(taps * (len(taps) / (np.trace(taps) or 1.0)), VARIANCE_FLOOR)
            if len(taps) > 1
            else np.eye(1)
            for taps in known
        ]


def shrinkage(covariance: Array, rows: float) -> float:
    """How much of a covariance `(n, n)` of so many rows is chance: the weight of the identity beside it.

    The oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010, arXiv:0907.4698), as a ratio.
    """
    n = len(covariance)
    total, squares = float(np.trace(covariance)) ** 2, float(np.square(covariance).sum())
    spread = squares - total / n
    if n == 1 or spread <= 0:
        return 0.0
    share = ((1 - 2 / n) * squares + total) / ((rows + 1 - 2 / n) * spread)
    share = min(share, MAX_SHRINKAGE)
    return share / (1 - share)
