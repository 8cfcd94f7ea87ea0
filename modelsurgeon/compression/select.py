"""One candidate per layer under a budget for the whole net.

Minimise the sum of damages with the sum of costs within the budget. A Lagrangian (damage + price * cost, the
price found by bisection) is solved layer by layer; it misses points off the convex hull, so what it leaves of
the budget is spent greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelsurgeon.errors import Unreachable
from modelsurgeon.factorize import Rank


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to treat a layer. `method` is None where the layer stays as it is.

    macs, params: of the chain. milliseconds: as measured, None where it wasn't. error: of the layer's own
    outputs, or of its weight where nothing is known of what it is fed; relative. damage: its predicted share
    in the error of the net. whole: layers that it changes besides, and that stay as they are otherwise; its
    costs are less by what it saves there.
    """

    method: str | None = None
    rank: Rank | None = None
    macs: int
    params: int
    milliseconds: float | None = None
    error: float = 0.0
    damage: float = 0.0
    whole: tuple[str, ...] = ()


MIN_UPGRADE_COST = 1e-9  # what an upgrade is taken to cost that costs nothing, or saves

Cost = Callable[[Candidate], float]
Choice = dict[str, Candidate]


def select(candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost) -> Choice:
    """The candidate of each layer with the least damage in all, their cost within `budget`.

    Raises Unreachable where even the cheapest candidates cost more.
    """
    least = cheapest(candidates, cost)
    if _total(least, cost) > budget:
        raise Unreachable(
            f"the cheapest choice costs {_total(least, cost):,.6g}, {budget:,.6g} was asked for: "
            "allow more, or leave fewer layers out"
        )
    return _spend_greedily(_bisect(candidates, budget, cost), candidates, budget, cost)


def cheapest(candidates: Mapping[str, Sequence[Candidate]], cost: Cost) -> Choice:
    """The choice that costs least, whatever the damage."""
    return _lagrangian_choice(candidates, float("inf"), cost)


def _lagrangian_choice(candidates: Mapping[str, Sequence[Candidate]], price: float, cost: Cost) -> Choice:
    """The best of each layer where a unit of cost is worth `price` in damage."""

    def value(c: Candidate) -> tuple[float, float]:
        return (cost(c), c.damage) if price == float("inf") else (c.damage + price * cost(c), cost(c))

    def best(layer: str, *, more: bool = False) -> Candidate | None:
        fit = [c for c in candidates.get(layer, ()) if bool(c.whole) == more]
        return min(fit, key=value, default=None)

    choice = {layer: c for layer in candidates if (c := best(layer)) is not None}
    settled: set[str] = set()
    for layer in candidates:
        more = best(layer, more=True)
        if more is None or not settled.isdisjoint((layer, *more.whole)):
            continue
        whole = {name: candidates[name][0] for name in more.whole if name in candidates} | {layer: more}
        if _sum(value(c) for c in whole.values()) < _sum(value(choice[name]) for name in whole):
            choice |= whole
            settled |= {layer, *more.whole}
    return choice


def _sum(values: Iterable[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*values, strict=True)
    return sum(first), sum(second)


def _bisect(candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost) -> Choice:
    """The dearest of the Lagrangian's choices within the budget, over all prices."""
    low, high, best = 0.0, 1e-12, _lagrangian_choice(candidates, float("inf"), cost)
    while _total(_lagrangian_choice(candidates, high, cost), cost) > budget and high < 1e12:
        low, high = high, high * 10
    for _ in range(60):
        price = (low + high) / 2
        choice = _lagrangian_choice(candidates, price, cost)
        if _total(choice, cost) > budget:
            low = price
        else:
            high, best = price, choice
    return best


def _spend_greedily(
    choice: Choice, candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost
) -> Choice:
    """Upgrade layers, the most damage saved per cost first, as long as the budget allows one."""
    choice = dict(choice)

    def fits(layer: str, c: Candidate) -> bool:
        others = {name for each, other in choice.items() if each != layer for name in other.whole}
        alone = others.isdisjoint((layer, *c.whole))
        return alone and all(choice[name].method is None for name in c.whole if name in choice)

    while True:
        left = budget - _total(choice, cost)
        upgrades = [
            (
                (choice[layer].damage - c.damage) / max(MIN_UPGRADE_COST, cost(c) - cost(choice[layer])),
                layer,
                c,
            )
            for layer, options in candidates.items()
            for c in options
            if c.damage < choice[layer].damage and cost(c) - cost(choice[layer]) <= left and fits(layer, c)
        ]
        if not upgrades:
            return choice
        _, layer, c = max(upgrades, key=lambda u: u[0])
        choice[layer] = c


def _total(choice: Choice, cost: Cost) -> float:
    return sum(map(cost, choice.values()))
