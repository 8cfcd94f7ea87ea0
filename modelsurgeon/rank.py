"""One layer's rank: from a share of its energy, or from the point where its chain stops being cheaper.

Ranks that we choose are multiples of `BLOCK`: runtimes lay channels out in blocks, and a rank of 65 costs a
quarter more time than one of 64. Ranks that a user names are taken as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from modelsurgeon.factorize import Method, Rank
from modelsurgeon.layer import Layer

BLOCK = 16

Price = Callable[[Sequence[Layer]], int]  # what a chain costs: its MACs, or its params


def ladder(method: Method[Any], layer: Layer, price: Price) -> list[int]:
    """Ranks worth trying, smallest first: below full, and with a chain that costs less than the layer."""
    full = method.full_rank(layer)
    top = max(full) if isinstance(full, tuple) else full
    whole = price([layer])
    ranks = range(1, top + 1) if top <= BLOCK else range(BLOCK, top + 1, BLOCK)
    count = bisect_left(ranks, True, key=lambda r: price(method.sketch(layer, r)) >= whole)
    return list(ranks[:count])


def break_even(method: Method[Any], layer: Layer, price: Price) -> int:
    """The largest rank whose chain costs less than the layer; 0 where none does."""
    full = method.full_rank(layer)
    top = max(full) if isinstance(full, tuple) else full
    whole = price([layer])
    return bisect_left(range(1, top + 1), True, key=lambda r: price(method.sketch(layer, r)) >= whole)


def for_energy(method: Method[Any], layer: Layer, energy: float, ranks: Sequence[int]) -> Rank | None:
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
