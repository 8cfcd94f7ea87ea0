"""`Method`: one factorization, given by functions for the shapes and the weights of its chain.

A method is written for a layer without groups. A grouped layer is several such layers in parallel: each group
is factorized separately, at the same rank, and the weights are concatenated along their output axis.
The shapes need no weights, so the cost of every rank is known before anything is factorized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from modelsurgeon.errors import BadArgument, UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import squared_norm

# Rank of each group; for Tucker-2 a pair (outputs, inputs), in the order of the weight's axes.
Rank = int | tuple[int, int]
R = TypeVar("R", bound=Rank)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """The outline of one layer of a chain, for a layer without groups.

    shape: of the weight, `(out, in / groups, *kernel)`. axes: the kernel axes whose stride, padding, dilation
    and output padding it has; it is neutral on all others.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Method(Generic[R]):
    """One factorization; call it with a layer and a rank to get the chain.

    The functions outline, factors, bound and errors are for a layer without groups and a rank within bounds.
    outline: the factors' shapes. factors: their weights, arrays of these shapes. bound: the rank at which the
    chain is exact. errors: relative error of the weight (Frobenius) at each rank.
    one_pass: whether the errors of all ranks cost little more than that of one.
    spectral: whether the errors come from a spectrum at once and are exact, or for `tucker2` an upper bound;
    else they are slower estimates.
    distinct: False for a layer for which a simpler method gives the same chain or one as good.
    alone: False where the chain pays only if the layer's other input channels can be removed (`channels`).
    """

    name: str
    summary: str
    outline: Callable[[Layer, R], list[Factor]]
    factors: Callable[[Layer, R], list[Array]]
    bound: Callable[[Layer], R]
    errors: Callable[[Layer, Sequence[R]], list[float]]
    one_pass: bool = True
    spectral: bool = True
    distinct: Callable[[Layer], bool] = lambda _: True
    alone: bool = True

    def __call__(self, layer: Layer, rank: Rank) -> list[Layer]:
        """The chain that approximates `layer`, in the layer's dtype; its last layer has the layer's bias.

        rank: of each group; larger than full is full, one number sets both ranks of a pair.
        Raises UnsupportedLayer for an empty weight or one with NaN or Inf, BadArgument for a rank below 1 or
        a pair where one rank is needed.
        """
        rank = self.clip(layer, rank)
        parts = split_groups(layer)
        weights = [
            np.concatenate(stack) for stack in zip(*(self.factors(p, rank) for p in parts), strict=True)
        ]
        chain = self.sketch(layer, rank)
        return [
            replace(link, weight=w.astype(layer.weight.dtype)) for link, w in zip(chain, weights, strict=True)
        ]

    def sketch(self, layer: Layer, rank: Rank) -> list[Layer]:
        """The chain with zeros for weights, which take no memory; its shapes, params and MACs are final.

        Raises UnsupportedLayer for an empty weight, BadArgument for a rank that `clip` refuses.
        """
        first = _group(layer, 0)
        outline = self.outline(first, self.clip(layer, rank))
        chain = []
        for place, factor in enumerate(outline):
            shape = (factor.shape[0] * layer.groups, *factor.shape[1:])
            weight = np.broadcast_to(np.zeros((), layer.weight.dtype), shape)
            bias = layer.bias if place == len(outline) - 1 else None
            link = layer.like(weight, axes=factor.axes, bias=bias, groups=factor.groups * layer.groups)
            chain.append(link)
        return chain

    def full_rank(self, layer: Layer) -> R:
        """The rank at which the chain equals the layer. Raises UnsupportedLayer for an empty weight."""
        if not layer.weight.size:
            raise UnsupportedLayer(f"its weight of shape {layer.weight.shape} is empty: nothing can be cut")
        return self.bound(_group(layer, 0))

    def clip(self, layer: Layer, rank: Rank) -> R:
        """The rank, no larger than full; a single number sets both ranks of a pair.

        Raises BadArgument for a rank below 1 or a pair where one rank is needed, UnsupportedLayer as
        `full_rank`.
        """
        full: Any = self.full_rank(layer)
        pair = isinstance(full, tuple)
        if isinstance(rank, tuple) and not pair:
            raise BadArgument(f"{self.name} takes one rank, not {rank}")
        wanted = rank if isinstance(rank, tuple) else (rank, rank)
        if min(wanted) < 1:
            raise BadArgument(f"rank {min(wanted)}: at least 1 is needed")
        clipped: Any = tuple(map(min, wanted, full)) if pair else min(wanted[0], full)
        return clipped  # type: ignore[no-any-return]

    def error(self, layer: Layer, ranks: Sequence[Rank]) -> list[float]:
        """Relative error of the weight (Frobenius) at each of `ranks`, over all groups; 0 for a zero weight.

        Without computing a chain: exact or an upper bound where `spectral`, else an estimate.
        Raises as calling the method does.
        """
        clipped = [self.clip(layer, rank) for rank in ranks]
        parts = split_groups(layer) if ranks else []
        shares = [squared_norm(part.weight) for part in parts]
        total = sum(shares)
        if not total:
            return [0.0] * len(ranks)
        squares = [s * np.square(self.errors(p, clipped)) for s, p in zip(shares, parts, strict=True)]
        return [float(e) for e in np.sqrt(np.sum(squares, axis=0) / total)]


def split_groups(layer: Layer) -> list[Layer]:
    """The groups as layers without groups and bias, each of weight `(out / groups, in / groups, *kernel)`."""
    return [_group(layer, index) for index in range(layer.groups)]


def _group(layer: Layer, index: int) -> Layer:
    size = layer.out_channels // layer.groups
    return replace(layer, weight=layer.weight[index * size : (index + 1) * size], bias=None, groups=1)
