"""The least damage at the speed asked for: chosen by each layer's milliseconds, judged by the whole model's.

What layers take alone adds up to the net's time but for what lies between them, which is measured once: the
time of the whole less that of its layers. What such sums get wrong the whole model tells: it is timed with
chains of the chosen shapes, their weights noise, and the budget is moved until the speed is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from modelsurgeon.compression.candidates import Decision, Resource, least_fraction, plan_by_budget
from modelsurgeon.compression.select import Candidate
from modelsurgeon.compression.study import Study
from modelsurgeon.errors import Unreachable
from modelsurgeon.surgery.edits import FactorizationEdit

MAX_SEARCH_STEPS = 5  # of the budget; a net of fifty layers is met in two or three
RUNS_PER_STEP = 10  # runs of the whole model at each step
TIME_MARGIN = (
    0.99  # of the time allowed, so that measuring again doesn't show a little less than was asked for
)
CLOSE_ENOUGH = 0.97  # of that is close enough
RESOURCE: Resource = "milliseconds"

Options = Mapping[str, Sequence[Candidate]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BudgetPoint(Generic[T]):
    """budget: a share of the net's milliseconds. taken: what the whole model was then measured to take."""

    budget: float
    taken: float
    choice: T


def plan_for_speedup(speedup: float, study: Study) -> Decision:
    """The least damage with the whole model `speedup` times as fast, measured on one thread.

    Raises Unreachable where even the quickest choice is slower, or where nothing can be timed.
    """
    clock = study.layer_timer
    if clock is None:
        raise Unreachable("a module is not timed: export it, and compress the export for a speedup")
    candidates, broken = study.options(RESOURCE)
    options = study.timed(candidates, clock)
    decision = _search(study, options, 1 / speedup)
    alone = [
        FactorizationEdit(layer=n, skipped="it can't be timed alone") for n in candidates if n not in options
    ]
    return replace(decision, kept=[*decision.kept, *broken, *alone])


def _search(study: Study, options: Options, allowed: float) -> Decision:
    """The largest budget with which the model takes at most `allowed` of its time."""
    layers = sum(found[0].milliseconds or 0.0 for found in options.values())
    if not layers:
        raise Unreachable("no layer here can be timed and replaced: allow more layers and methods")
    quickest = plan_by_budget(options, least_fraction(options, layers, RESOURCE) + 1e-9, layers, RESOURCE)
    whole, taken = _measure(study, quickest)
    if taken > allowed:
        raise Unreachable(
            f"the quickest choice of ranks is {1 / taken:.2f} times as fast, {1 / allowed:g} was asked for: "
            "ask for less, or allow more layers and methods"
        )
    total = max(whole, layers)
    start = BudgetPoint(budget=least_fraction(options, total, RESOURCE), taken=taken, choice=quickest)
    return secant_search(
        start,
        TIME_MARGIN * allowed,
        choose=lambda budget: plan_by_budget(options, budget, total, RESOURCE),
        taken=lambda decision: _measure(study, decision)[1],
    )


def secant_search(
    good: BudgetPoint[T], allowed: float, *, choose: Callable[[float], T], taken: Callable[[T], float]
) -> T:
    """The choice at about the largest budget at which at most `allowed` is taken, from one that is `good`.

    A budget of 1 takes 1. Each step goes along the line from the best that is good to the least that isn't.
    """
    bad = 1.0, 1.0
    aim = allowed * (1 + CLOSE_ENOUGH) / 2
    for _ in range(MAX_SEARCH_STEPS):
        if good.taken >= CLOSE_ENOUGH * allowed:
            break
        slope = (bad[0] - good.budget) / (bad[1] - good.taken)
        budget = good.budget + slope * (aim - good.taken)
        choice = choose(budget)
        if (share := taken(choice)) <= allowed:
            good = BudgetPoint(budget=budget, taken=share, choice=choice)
        else:
            bad = budget, share
    return good.choice


def _measure(study: Study, decision: Decision) -> tuple[float, float]:
    """Milliseconds of the whole model, and the share of them that it takes when it is so cut."""
    timed = study.latency(study.hollow(decision.plan), repeats=RUNS_PER_STEP)
    if timed is None:
        raise Unreachable("a model is timed where it runs: nothing here can run it")
    return timed["before"]["median_ms"], 1 / timed["speedup"]
