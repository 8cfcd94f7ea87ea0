"""What a factorization is: the outline of its chain, and the numbers that fill it.

A method is written for a layer without groups. A grouped layer is a stack of such layers side by side: each
group is factorized on its own, at the same rank, and the chains are stacked again.
The outline needs no weights, so the cost of every rank is known before anything is factorized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import squared_norm

# Of each group's factorization; a pair (outputs, inputs) for Tucker-2, the order of the weight's axes.
Rank = int | tuple[int, int]
R = TypeVar("R", bound=Rank)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """The outline of one layer in a chain: its weight's shape, and the kernel axes it takes geometry from."""

    shape: tuple[int, ...]
    axes: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Method(Generic[R]):
    """One factorization; call it with a layer and a rank to get the chain.

    outline, factors: the chain's shapes and its weights, for a layer without groups and a rank within bounds.
    bound: the smallest rank at which the chain is exact. errors: relative error of the weight at each rank.
    one_pass: the errors of all ranks cost little more than that of one.
    spectral: they come from a spectrum, at once and exactly; else they are estimates that take their time.
    distinct: False for a layer to which a simpler method gives the same chain or one as good.
    alone: whether the chain pays by itself; else only where what the layer is fed can be made narrower.
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
        """The chain that approximates `layer`, in the layer's own dtype; a rank above full is full."""
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
        """The chain with placeholder weights that take no memory: its shapes, params and MACs are true."""
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
        """The smallest rank at which the chain equals the layer. Raises UnsupportedLayer for an empty one."""
        if not layer.weight.size:
            raise UnsupportedLayer(f"its weight of shape {layer.weight.shape} is empty: nothing can be cut")
        return self.bound(_group(layer, 0))

    def clip(self, layer: Layer, rank: Rank) -> R:
        """The rank, no larger than full; a single number stands for both of a pair."""
        full: Any = self.full_rank(layer)
        pair = isinstance(full, tuple)
        if isinstance(rank, tuple) and not pair:
            raise ValueError(f"{self.name} takes one rank, not {rank}")
        wanted = rank if isinstance(rank, tuple) else (rank, rank)
        if min(wanted) < 1:
            raise ValueError(f"rank {min(wanted)}: at least 1 is needed")
        clipped: Any = tuple(map(min, wanted, full)) if pair else min(wanted[0], full)
        return clipped  # type: ignore[no-any-return]

    def error(self, layer: Layer, ranks: Sequence[Rank]) -> list[float]:
        """Relative error of the weight (Frobenius) at each of `ranks`, over all groups."""
        clipped = [self.clip(layer, rank) for rank in ranks]
        parts = split_groups(layer) if ranks else []
        shares = [squared_norm(part.weight) for part in parts]
        total = sum(shares)
        if not total:
            return [0.0] * len(ranks)
        squares = [s * np.square(self.errors(p, clipped)) for s, p in zip(shares, parts, strict=True)]
        return [float(e) for e in np.sqrt(np.sum(squares, axis=0) / total)]


def split_groups(layer: Layer) -> list[Layer]:
    """The layer's groups as layers of their own, without bias."""
    return [_group(layer, index) for index in range(layer.groups)]


def _group(layer: Layer, index: int) -> Layer:
    size = layer.out_channels // layer.groups
    return replace(layer, weight=layer.weight[index * size : (index + 1) * size], bias=None, groups=1)
