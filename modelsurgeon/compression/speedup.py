"""The plan of least damage for a speedup: chosen by layer latencies, checked by the latency of the model.

The latency of the model is taken as that of its layers plus a constant rest, which is measured once: the
latency of the whole less that of its layers. The sum is only an estimate. So the whole model is timed with
chains of the chosen shapes and random weights, and the budget is moved until the speedup is met.
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

MAX_SEARCH_STEPS = 5  # budgets tried; a model of fifty layers takes two or three
RUNS_PER_STEP = 10  # runs of the whole model at each step
TIME_MARGIN = 0.99  # share of the allowed time to aim at, so that a second measurement is within it as well
CLOSE_TIME_SHARE = 0.97  # share of that time from which the search stops
TIME_RESOURCE: Resource = "milliseconds"

Options = Mapping[str, Sequence[Candidate]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BudgetPoint(Generic[T]):
    """A budget that was tried, and the choice it led to.

    budget: allowed share of the model's milliseconds, as estimated. taken: measured share.
    """

    budget: float
    taken: float
    choice: T


def plan_for_speedup(speedup: float, study: Study) -> Decision:
    """The decision of least damage with the whole model `speedup` times as fast, measured on one thread.

    Raises Unreachable where even the fastest choice is slower, or where nothing can be timed.
    """
    timer = study.layer_timer
    if timer is None:
        raise Unreachable("a module is not timed: export it, and compress the export for a speedup")
    found = study.options(TIME_RESOURCE)
    options = study.timed(found.candidates, timer)
    decision = _search(study, options, 1 / speedup)
    untimed = [
        FactorizationEdit(layer=name, skipped="it can't be timed alone")
        for name in found.candidates
        if name not in options
    ]
    return replace(
        decision,
        skipped=[*decision.skipped, *found.broken, *untimed],
        notes=[*found.notes, *decision.notes],
    )


def _search(study: Study, options: Options, allowed: float) -> Decision:
    """The decision at the largest budget with which the model takes at most `allowed` of its time."""
    layers_ms = sum(found[0].milliseconds or 0.0 for found in options.values())
    if not layers_ms:
        raise Unreachable("no layer here can be timed and replaced: allow more layers and methods")
    fastest = plan_by_budget(
        options, least_fraction(options, layers_ms, TIME_RESOURCE) + 1e-9, layers_ms, TIME_RESOURCE
    )
    model_ms, taken = _measure_latency(study, fastest)
    if taken > allowed:
        raise Unreachable(
            f"the quickest choice of ranks is {1 / taken:.2f} times as fast, {1 / allowed:g} was asked for: "
            "ask for less, or allow more layers and methods"
        )
    total = max(model_ms, layers_ms)
    start = BudgetPoint(budget=least_fraction(options, total, TIME_RESOURCE), taken=taken, choice=fastest)
    return secant_search(
        start,
        TIME_MARGIN * allowed,
        choose=lambda budget: plan_by_budget(options, budget, total, TIME_RESOURCE),
        taken=lambda decision: _measure_latency(study, decision)[1],
    )


def secant_search(
    good: BudgetPoint[T], allowed: float, *, choose: Callable[[float], T], taken: Callable[[T], float]
) -> T:
    """The choice at about the largest budget that takes at most `allowed`, found by linear interpolation.

    good: a budget that takes at most `allowed`; a budget of 1 takes 1. Each step interpolates between the
    largest budget known to be good and the smallest known to be too large.
    """
    too_large = 1.0, 1.0
    aim = allowed * (1 + CLOSE_TIME_SHARE) / 2
    for _ in range(MAX_SEARCH_STEPS):
        if good.taken >= CLOSE_TIME_SHARE * allowed:
            break
        slope = (too_large[0] - good.budget) / (too_large[1] - good.taken)
        budget = good.budget + slope * (aim - good.taken)
        choice = choose(budget)
        if (share := taken(choice)) <= allowed:
            good = BudgetPoint(budget=budget, taken=share, choice=choice)
        else:
            too_large = budget, share
    return good.choice


def _measure_latency(study: Study, decision: Decision) -> tuple[float, float]:
    """Milliseconds of the whole model, and the share of them that the model takes after the cut."""
    timed = study.latency(study.timing_model(decision.plan), repeats=RUNS_PER_STEP)
    if timed is None:
        raise Unreachable("a model is timed where it runs: nothing here can run it")
    return timed["before"]["median_ms"], 1 / timed["speedup"]
