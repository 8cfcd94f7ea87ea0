"""Activation-aware factorizations: least error of a layer's outputs, not of its weight.

The squared error of the outputs is `tr((W - Wa) C (W - Wa)^T)` with C the covariance of the patches. With
`C = S S^T` that is the plain error of `(W - Wa) S`: a method cuts the whitened weight `W S`, and the factors
that hold a whitened axis are unwhitened afterwards. Four strategies make use of what is known:

- `by_weight`: nothing is known that the method could use; it cuts the weight itself.
- `by_response`: of a matrix with fewer outputs than inputs the covariance of the outputs is known. With U its
  leading eigenvectors the optimum is `Wa = U U^T W`: no inverse (Zhang et al., 2015, arXiv:1505.06798).
- `by_channels`: `channels` leaves inputs out, which no whitened axis shows; it works on the second moments.
- `by_whitening`: of a kernel, C is taken as the Kronecker product of the covariance of the channels and those
  of the taps along each axis. The whitened weight is still a kernel, with all the structure that
  `spatial-svd`, `tucker2` and `cp` make use of. For a matrix the result is the optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modelsurgeon.calibration.moments import InputMoments, Moments
from modelsurgeon.factorize import METHODS, Rank, compose
from modelsurgeon.factorize.channel_selection import CHANNELS, Elimination, best_weights, eliminate, selection
from modelsurgeon.factorize.method import split_groups
from modelsurgeon.factorize.svd import input_unfolded
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import VARIANCE_FLOOR, cholesky, singular_vectors, solve_factor, times_factor
from modelsurgeon.linalg.shrinkage import effective_rows, shrinkage


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedLayer:
    """A layer with the moments of its inputs. inputs: None where only the weight is known."""

    layer: Layer
    inputs: InputMoments | None = None

    def error(self, method: str, ranks: Sequence[Rank]) -> list[float]:
        """Relative error of the outputs at each rank; of the weight where the inputs aren't known."""
        strategy = self._strategy(method)
        if strategy is by_weight:
            return METHODS[method].error(self.layer, ranks)
        if strategy is by_channels:
            lost = np.sum([each.lost for each in self.eliminations], axis=0)
            return [float(np.sqrt(lost[CHANNELS.clip(self.layer, r)] / (lost[0] or 1.0))) for r in ranks]
        return METHODS[method].error(self.whitened, ranks)

    def sketch(self, method: str, rank: Rank) -> list[Layer]:
        """The chain's shapes without its numbers, with the bias that calibration adds."""
        chain = METHODS[method].sketch(self.layer, rank)
        if self.inputs is None or not self.centred or chain[-1].bias is not None:
            return chain
        bias = np.zeros(self.layer.out_channels, self.layer.weight.dtype)
        return [*chain[:-1], replace(chain[-1], bias=bias)]

    def chain(self, method: str, rank: Rank) -> list[Layer]:
        """The factors that take the layer's place. Raises UnsupportedLayer where the method has no form."""
        if self.inputs is None:
            return by_weight(self, method, rank)
        dtype = self.layer.weight.dtype
        factors = self._strategy(method)(self, method, rank)
        chain = [replace(link, weight=link.weight.astype(dtype)) for link in factors]
        return self._with_mean_in_bias(chain) if self.centred else chain

    def _strategy(self, method: str) -> Strategy:
        """How the method makes use of what is known of the inputs."""
        if self.inputs is None:
            return by_weight
        if self.inputs.response:  # which allows for a single cut of the matrix
            single = method != CHANNELS.name and len(METHODS[method].sketch(self.layer, 1)) == 2
            return by_response if single else by_weight
        return by_channels if method == CHANNELS.name else by_whitening

    @property
    def centred(self) -> bool:
        """Whether the mean of the outputs' error goes into the bias. A product without one gets none."""
        return not self.layer.transposed and (self.layer.bias is not None or bool(self.layer.kernel))

    @cached_property
    def whitened(self) -> Layer:
        """The layer whose plain error of the weight is the error of the outputs."""
        if self.inputs is None:
            return self.layer
        if self.inputs.response:
            roots = [root[:, :, *(None for _ in self.layer.kernel)] for root in self.channel_roots]
            return replace(self.layer, weight=np.concatenate(roots), bias=None)
        parts = np.split(self.layer.weight.astype(np.float64), self.layer.groups)
        weight = np.concatenate(
            [times_factor(part, root, 1) for part, root in zip(parts, self.channel_roots, strict=True)]
        )
        for axis, root in enumerate(self.tap_roots):
            weight = times_factor(weight, root, 2 + axis)
        wide = self.layer.weight.dtype == np.float64
        return replace(self.layer, weight=weight.astype(np.float64 if wide else np.float32))

    @cached_property
    def grams(self) -> list[Array]:
        """Second moments of the channels of each group, about the mean where that goes into the bias."""
        return [root @ root.T for root in self.channel_roots]

    @cached_property
    def eliminations(self) -> list[Elimination]:
        """For each group, the order in which its channels are best left out."""
        parts = zip(split_groups(self.layer), self.grams, strict=True)
        return [eliminate(input_unfolded(part).T, gram) for part, gram in parts]

    @cached_property
    def channel_roots(self) -> list[Array]:
        """Cholesky factors of the covariance of the channels, shrunk, one for each group."""
        known: Sequence[Moments] = () if self.inputs is None else self.inputs.channels
        samples = 1 if self.inputs is None else self.inputs.samples
        roots = []
        for moments in known:
            covariance = moments.covariance if self.centred else moments.second
            share = shrinkage(covariance, effective_rows(samples, moments.count))
            roots.append(cholesky(covariance, VARIANCE_FLOOR + share))
        return roots

    @cached_property
    def tap_roots(self) -> list[Array]:
        """Cholesky factors of the taps' correlations along each axis."""
        known: Sequence[Array] = () if self.inputs is None else self.inputs.taps
        return [
            cholesky(taps * (len(taps) / (np.trace(taps) or 1.0)), VARIANCE_FLOOR)
            if len(taps) > 1
            else np.eye(1)
            for taps in known
        ]

    def _with_mean_in_bias(self, chain: list[Layer]) -> list[Layer]:
        """The chain with the mean of the outputs' error added to its bias."""
        layer = self.layer
        lost = layer.weight.astype(np.float64) - compose(chain).weight
        means = np.zeros((layer.groups, 0)) if self.inputs is None else self.inputs.patch
        parts = zip(np.split(lost, layer.groups), means, strict=True)
        shift = np.concatenate([part.reshape(len(part), -1) @ mean for part, mean in parts])
        bias = shift if layer.bias is None else layer.bias + shift
        return [*chain[:-1], replace(chain[-1], bias=bias.astype(layer.weight.dtype))]


Strategy = Callable[[CalibratedLayer, str, Rank], list[Layer]]


def by_weight(calibrated: CalibratedLayer, method: str, rank: Rank) -> list[Layer]:
    """The factors of the weight itself."""
    return METHODS[method](calibrated.layer, rank)


def by_response(calibrated: CalibratedLayer, method: str, rank: Rank) -> list[Layer]:
    """The matrix projected on the leading directions of its own outputs."""
    layer, sketch = calibrated.layer, METHODS[method].sketch(calibrated.layer, rank)
    parts = np.split(layer.weight.astype(np.float64), layer.groups)
    kept = len(sketch[0].weight) // layer.groups
    bases = [singular_vectors(root, kept) for root in calibrated.channel_roots]
    first = [basis.T @ part.reshape(len(part), -1) for basis, part in zip(bases, parts, strict=True)]
    return _filled(sketch, np.concatenate(first), np.concatenate(bases))


def by_channels(calibrated: CalibratedLayer, method: str, rank: Rank) -> list[Layer]:
    """A selection of the channels, and the weights with which the outputs are nearest to those of all."""
    layer, sketch = calibrated.layer, METHODS[method].sketch(calibrated.layer, rank)
    into, kept = layer.weight.shape[1], len(sketch[0].weight) // layer.groups
    first, last = [], []
    groups = zip(split_groups(layer), calibrated.grams, calibrated.eliminations, strict=True)
    for part, gram, elimination in groups:
        channels = elimination.kept(kept)
        columns = best_weights(input_unfolded(part).T, gram, channels)
        first.append(selection(into, channels))
        last.append(np.moveaxis(columns.reshape(part.out_channels, *part.kernel, kept), -1, 1))
    return _filled(sketch, np.concatenate(first), np.concatenate(last))


def by_whitening(calibrated: CalibratedLayer, method: str, rank: Rank) -> list[Layer]:
    """The factors of the whitened weight, with every axis unwhitened on the factor that holds it."""
    chain = list(METHODS[method](calibrated.whitened, rank))
    parts = np.split(chain[0].weight, calibrated.layer.groups)
    unwhitened = [
        solve_factor(part, root, 1) for part, root in zip(parts, calibrated.channel_roots, strict=True)
    ]
    chain[0] = replace(chain[0], weight=np.concatenate(unwhitened))
    for axis, root in enumerate(calibrated.tap_roots):
        place = next((i for i, link in enumerate(chain) if link.kernel[axis] == len(root)), None)
        if place is not None and len(root) > 1:
            chain[place] = replace(chain[place], weight=solve_factor(chain[place].weight, root, 2 + axis))
    return chain


def _filled(sketch: Sequence[Layer], *weights: Array) -> list[Layer]:
    """The sketch with these numbers."""
    return [
        replace(link, weight=weight.reshape(link.weight.shape))
        for link, weight in zip(sketch, weights, strict=True)
    ]
