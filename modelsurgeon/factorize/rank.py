"""One layer's rank: from a share of its energy or its cost, from its spectrum alone, or where it breaks even.

Ranks that we choose are multiples of `RANK_BLOCK`: runtimes lay channels out in blocks, and a rank of 65
costs a quarter more time than one of 64. Ranks that a user names are taken as they are.
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

Price = Callable[[Sequence[Layer]], int]  # what a chain costs: its MACs, or its params


def aligned(rank: float, full: int, *, block: int = RANK_BLOCK, towards: Towards = "nearest") -> int:
    """The rank as a multiple of `block`, at least one block and at most `full`.

    Where not even one block fits below `full`, any whole number is as good as another.
    """
    step = block if full > block else 1
    rounding: dict[Towards, Callable[[float], int]] = {"up": ceil, "down": floor, "nearest": round}
    return min(max(rounding[towards](rank / step) * step, step), full)


def ladder(method: Method[Any], layer: Layer, price: Price, *, block: int = RANK_BLOCK) -> list[int]:
    """Ranks worth trying, smallest first: below full, and with a chain that costs less than the layer."""
    full = method.full_rank(layer)
    top = max(full) if isinstance(full, tuple) else full
    whole = price([layer])
    ranks = _steps(top, block)
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
    """Pairs of ranks with their errors, each better than all that cost no more; cheapest first.

    Below the layer's own cost, of multiples of `block`. error: of the method at many ranks, in one pass.
    """
    sides = [_steps(top, block) for top in method.full_rank(layer)]
    pairs: list[Rank] = [(p, q) for p in sides[0] for q in sides[1]]
    costs = _costs(method, layer, price, sides)
    errors = np.asarray(error(pairs))
    order = [int(i) for i in np.lexsort((errors, costs)) if costs[i] < price([layer])]
    found: list[tuple[Rank, float]] = []
    for i in order:
        if not found or errors[i] < found[-1][1]:
            found.append((pairs[i], float(errors[i])))
    return found


def _steps(top: int, block: int) -> range:
    """Ranks up to `top`, in blocks where one fits below it."""
    return range(1, top + 1) if top <= block else range(block, top + 1, block)


def _costs(method: Method[Any], layer: Layer, price: Price, sides: Sequence[range]) -> Array:
    """Cost of every pair: a polynomial of the first degree in either rank, known from four of its values."""
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
    """The first of `ranks` at which the chain keeps that share of the squared norm; None if none does.

    energy: between 0 and 1; a relative error e leaves 1 - e^2.
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
    """The largest rank of the ladder whose chain costs at most that share of the layer; None if none does."""
    ranks = ladder(method, layer, price, block=block)
    most = share * price([layer])
    count = bisect_left(ranks, True, key=lambda r: price(method.sketch(layer, r)) > most)
    return ranks[count - 1] if count else None


def for_spectrum(method: Method[Any], layer: Layer, *, block: int = RANK_BLOCK) -> Rank | None:
    """The rank that the spectrum alone suggests (`evbmf`), to the nearest block; None where all is noise.

    Of a pair of ranks, each comes from its own unfolding. The method's errors have to be exact (`spectral`).
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
    """Squared singular values, relative to their sum: what each further rank takes off the squared error."""
    full = method.full_rank(layer)
    if isinstance(full, tuple):
        ranks: list[Rank] = [(r, full[1]) if place == 0 else (full[0], r) for r in range(1, full[place] + 1)]
    else:
        ranks = list(range(1, full + 1))
    left = np.square([1.0, *method.error(layer, ranks)])
    return np.asarray(np.maximum(left[:-1] - left[1:], 0.0))
