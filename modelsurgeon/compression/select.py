"""One candidate per layer under a budget for the whole model.

The sum of damages is minimized with the sum of costs within the budget. A Lagrangian (damage + price * cost,
the price found by bisection) is solved layer by layer. It misses points off the convex hull, so what it
leaves of the budget is spent greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelsurgeon.errors import Unreachable
from modelsurgeon.factorize import Rank


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to treat a layer. `method` is None where the layer stays as it is.

    macs, params: of the chain. milliseconds: of the chain, None where it wasn't timed. error: relative error
    of the layer's outputs, or of its weight without calibration. damage: predicted contribution to the error
    of the model. also_changes: other layers that it changes, which must stay as they are otherwise; what it
    saves in them is subtracted from its costs.
    """

    method: str | None = None
    rank: Rank | None = None
    macs: int
    params: int
    milliseconds: float | None = None
    error: float = 0.0
    damage: float = 0.0
    also_changes: tuple[str, ...] = ()


MIN_UPGRADE_COST = 1e-9  # assumed cost of an upgrade that costs nothing, or saves

Cost = Callable[[Candidate], float]
Choice = dict[str, Candidate]


def select(candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost) -> Choice:
    """One candidate per layer: the choice of least total damage whose total cost is within `budget`.

    cost: a candidate's cost, in the unit of the budget. Raises Unreachable where even the cheapest candidates
    cost more.
    """
    least = cheapest(candidates, cost)
    if _total_cost(least, cost) > budget:
        raise Unreachable(
            f"the cheapest choice costs {_total_cost(least, cost):,.6g}, {budget:,.6g} was asked for: "
            "allow more, or leave fewer layers out"
        )
    return _upgrade_greedily(_bisect(candidates, budget, cost), candidates, budget, cost)


def cheapest(candidates: Mapping[str, Sequence[Candidate]], cost: Cost) -> Choice:
    """The choice of least cost, whatever the damage."""
    return _lagrangian_choice(candidates, float("inf"), cost)


def _lagrangian_choice(candidates: Mapping[str, Sequence[Candidate]], price: float, cost: Cost) -> Choice:
    """The choice of least damage + price * cost, or of least cost where the price is infinite.

    Candidates that change other layers are compared with the sum of the single choices they replace.
    """

    def value(c: Candidate) -> tuple[float, float]:
        return (cost(c), c.damage) if price == float("inf") else (c.damage + price * cost(c), cost(c))

    def best(layer: str, *, changes_others: bool = False) -> Candidate | None:
        fit = [c for c in candidates.get(layer, ()) if bool(c.also_changes) == changes_others]
        return min(fit, key=value, default=None)

    choice = {layer: c for layer in candidates if (c := best(layer)) is not None}
    settled: set[str] = set()
    for layer in candidates:
        more = best(layer, changes_others=True)
        if more is None or not settled.isdisjoint((layer, *more.also_changes)):
            continue
        joint = {name: candidates[name][0] for name in more.also_changes if name in candidates} | {
            layer: more
        }
        if _sum_pairs(value(c) for c in joint.values()) < _sum_pairs(value(choice[name]) for name in joint):
            choice |= joint
            settled |= {layer, *more.also_changes}
    return choice


def _sum_pairs(values: Iterable[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*values, strict=True)
    return sum(first), sum(second)


def _bisect(candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost) -> Choice:
    """The Lagrangian's choice at the lowest price found whose cost is within the budget."""
    low, high, best = 0.0, 1e-12, _lagrangian_choice(candidates, float("inf"), cost)
    while _total_cost(_lagrangian_choice(candidates, high, cost), cost) > budget and high < 1e12:
        low, high = high, high * 10
    for _ in range(60):
        price = (low + high) / 2
        choice = _lagrangian_choice(candidates, price, cost)
        if _total_cost(choice, cost) > budget:
            low = price
        else:
            high, best = price, choice
    return best


def _upgrade_greedily(
    choice: Choice, candidates: Mapping[str, Sequence[Candidate]], budget: float, cost: Cost
) -> Choice:
    """The choice after upgrades, most damage saved per cost first, as long as one is within the budget."""
    choice = dict(choice)

    def fits(layer: str, c: Candidate) -> bool:
        others = {n for chosen, other in choice.items() if chosen != layer for n in other.also_changes}
        alone = others.isdisjoint((layer, *c.also_changes))
        return alone and all(choice[name].method is None for name in c.also_changes if name in choice)

    while True:
        left = budget - _total_cost(choice, cost)
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


def _total_cost(choice: Choice, cost: Cost) -> float:
    return sum(map(cost, choice.values()))
