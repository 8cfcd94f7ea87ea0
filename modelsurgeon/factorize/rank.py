"""One layer's rank: for a share of its energy or its cost, from its spectrum, or at break-even.

Ranks chosen here are multiples of `RANK_BLOCK`: runtimes store channels in blocks, and rank 65 takes a
quarter more time than 64. Ranks that a user gives are used as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil, floor
from typing import Any, Literal

import numpy as np

from modelsurgeon.factorize import Method, Rank
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import evbmf

RANK_BLOCK = 16
Towards = Literal["up", "down", "nearest"]

Price = Callable[[Sequence[Layer]], int]  # cost of a chain: its MACs or its params


def aligned(rank: float, full: int, *, block: int = RANK_BLOCK, towards: Towards = "nearest") -> int:
    """The rank rounded to a multiple of `block`, at least one block and at most `full`.

    Where `full` is at most one block, it is rounded to a whole number.
    """
    step = block if full > block else 1
    rounding: dict[Towards, Callable[[float], int]] = {"up": ceil, "down": floor, "nearest": round}
    return min(max(rounding[towards](rank / step) * step, step), full)


def candidate_ranks(method: Method[Any], layer: Layer, price: Price, *, block: int = RANK_BLOCK) -> list[int]:
    """Multiples of `block` up to full rank whose chain costs less than the layer, ascending.

    All ranks where full rank is at most one block.
    """
    full = method.full_rank(layer)
    top = max(full) if isinstance(full, tuple) else full
    whole = price([layer])
    ranks = _rank_range(top, block)
    count = bisect_left(ranks, True, key=lambda r: price(method.sketch(layer, r)) >= whole)
    return list(ranks[:count])


def frontier(
    method: Method[Any],
    layer: Layer,
    price: Price,
    error: Callable[[Sequence[Rank]], Sequence[float]],
    *,
    block: int = RANK_BLOCK,
) -> list[tuple[Rank, float]]:
    """The Pareto front of pairs of ranks by cost and error, with the errors; cheapest first.

    Pairs of multiples of `block` that cost less than the layer. error: the method's errors at many ranks.
    """
    sides = [_rank_range(top, block) for top in method.full_rank(layer)]
    pairs: list[Rank] = [(p, q) for p in sides[0] for q in sides[1]]
    costs = _costs(method, layer, price, sides)
    errors = np.asarray(error(pairs))
    order = [int(i) for i in np.lexsort((errors, costs)) if costs[i] < price([layer])]
    found: list[tuple[Rank, float]] = []
    for i in order:
        if not found or errors[i] < found[-1][1]:
            found.append((pairs[i], float(errors[i])))
    return found


def _rank_range(top: int, block: int) -> range:
    """Ranks up to `top`: multiples of `block`, or all where `top` is at most one block."""
    return range(1, top + 1) if top <= block else range(block, top + 1, block)


def _costs(method: Method[Any], layer: Layer, price: Price, sides: Sequence[range]) -> Array:
    """Cost of every pair `(len(p) * len(q),)`: bilinear in both ranks, so four values determine it."""
    (a, b), (c, d) = ([price(method.sketch(layer, (p, q))) for q in (1, 2)] for p in (1, 2))
    p, q = np.meshgrid(*(np.array(side) - 1 for side in sides), indexing="ij")
    return np.asarray(a + p * (c - a) + q * (b - a) + p * q * (a - b - c + d)).ravel()


def break_even(method: Method[Any], layer: Layer, price: Price) -> int:
    """The largest rank whose chain costs less than the layer; 0 where none does."""
    full = method.full_rank(layer)
    top = max(full) if isinstance(full, tuple) else full
    whole = price([layer])
    return bisect_left(range(1, top + 1), True, key=lambda r: price(method.sketch(layer, r)) >= whole)


def for_energy(method: Method[Any], layer: Layer, energy: float, ranks: Sequence[Rank]) -> Rank | None:
    """The first of `ranks` at which the chain keeps a share of the weight's squared norm; None if none does.

    energy: the share, between 0 and 1; a relative error e leaves 1 - e^2. ranks: ascending.
    """
    allowed = (1.0 - energy) ** 0.5
    if method.one_pass:
        errors = dict(zip(ranks, method.error(layer, ranks), strict=True))
        return next((r for r in ranks if errors[r] <= allowed), None)
    if not ranks or method.error(layer, ranks[-1:])[0] > allowed:
        return None
    return ranks[bisect_left(ranks[:-1], True, key=lambda r: method.error(layer, [r])[0] <= allowed)]


def for_share(
    method: Method[Any], layer: Layer, share: float, price: Price, *, block: int = RANK_BLOCK
) -> int | None:
    """The largest of `candidate_ranks` whose chain costs at most a share of the layer; None if none does."""
    ranks = candidate_ranks(method, layer, price, block=block)
    most = share * price([layer])
    count = bisect_left(ranks, True, key=lambda r: price(method.sketch(layer, r)) > most)
    return ranks[count - 1] if count else None


def for_spectrum(method: Method[Any], layer: Layer, *, block: int = RANK_BLOCK) -> Rank | None:
    """The rank that variational Bayes suggests from the spectrum (`evbmf`), to the nearest block; None if 0.

    Both ranks of a pair are suggested, each from its own unfolding. The method has to be `spectral`.
    """
    full = method.full_rank(layer)
    sides = full if isinstance(full, tuple) else (full,)
    squares = [_spectrum(method, layer, place) for place in range(len(sides))]
    size = layer.weight.size // layer.groups
    found = [evbmf(np.sqrt(s), size // len(s)) for s in squares]
    if not all(found):
        return None
    ranks = [aligned(r, top, block=block) for r, top in zip(found, sides, strict=True)]
    return (ranks[0], ranks[1]) if isinstance(full, tuple) else ranks[0]


def _spectrum(method: Method[Any], layer: Layer, place: int) -> Array:
    """Squared singular values relative to their sum: the decrease of the squared error at each rank.

    place: index of the rank in a pair.
    """
    full = method.full_rank(layer)
    if isinstance(full, tuple):
        ranks: list[Rank] = [(r, full[1]) if place == 0 else (full[0], r) for r in range(1, full[place] + 1)]
    else:
        ranks = list(range(1, full + 1))
    left = np.square([1.0, *method.error(layer, ranks)])
    return np.asarray(np.maximum(left[:-1] - left[1:], 0.0))
