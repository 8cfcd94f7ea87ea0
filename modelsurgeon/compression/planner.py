"""From a goal for the whole model to a plan for its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from modelsurgeon.comparison import gate
from modelsurgeon.compression.candidates import Decision, least_fraction, plan_by_budget
from modelsurgeon.compression.goal import Goal
from modelsurgeon.compression.latency_model import is_slower
from modelsurgeon.compression.layerwise import plan_by_energy, plan_by_rank
from modelsurgeon.compression.remainder import why_remaining
from modelsurgeon.compression.select import Candidate
from modelsurgeon.compression.speedup import plan_for_speedup
from modelsurgeon.compression.study import Study
from modelsurgeon.errors import BadArgument, BadPlan, Unreachable
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep

BISECTION_STEPS = 7  # on the error of the whole model: the fraction is found to about 1 %


def decide(goal: Goal, study: Study) -> Decision:
    """The decision that meets the goal. Raises BadPlan, Unreachable, and ValueError where data is missing."""
    if goal.plan is not None:
        return _from_given_plan(goal.plan, study)
    if goal.rank is not None:
        return plan_by_rank(study.sites, goal.rank, study.methods, block=study.block)
    if goal.energy is not None:
        return plan_by_energy(study.sites, goal.energy, study.methods, block=study.block)
    if goal.speedup is not None and study.held_out is not None:
        return plan_for_speedup(goal.speedup, study)
    resource: Literal["macs", "params"] = "macs" if goal.params is None else "params"
    at, least = budgets(study, resource)
    fraction = goal.macs if goal.params is None else goal.params
    if fraction is not None:
        return at(fraction)
    if study.held_out is None:
        raise BadArgument(
            "max_error and speedup are measured on the whole model: data must be there to run it"
        )
    return _within_error(goal, study, at, least)


def budgets(study: Study, resource: Literal["macs", "params"]) -> tuple[Callable[[float], Decision], float]:
    """A function from a fraction of the resource to the decision, and the least fraction that can be had.

    Candidates and their damage are found once. The function raises Unreachable below the least fraction.
    Raises Unreachable for a model that has none of the resource.
    """
    total = _check_total(study, resource)
    found = study.options(resource)
    options = found.candidates

    def choose(fraction: float) -> Decision:
        try:
            return plan_by_budget(options, fraction, total, resource)
        except Unreachable as error:
            skipped = [*study.skipped, *found.broken]
            costs, names = study.model.node_costs(), set(study.model.names)
            why = why_remaining(resource, costs, options, skipped, names)
            raise Unreachable(f"{error}{why}") from None

    def at(fraction: float) -> Decision:
        decision = without_slower_chains(options, study, lambda: choose(fraction))
        return replace(
            decision,
            skipped=[*decision.skipped, *found.broken],
            options=options,
            notes=[*found.notes, *decision.notes],
        )

    return at, least_fraction(options, total, resource)


def _check_total(study: Study, resource: Literal["macs", "params"]) -> int:
    """The model's total of a resource. Raises Unreachable where it has none, so that nothing can be cut."""
    if total := study.model.total(resource):
        return total
    word = {"macs": "MACs", "params": "params"}[resource]
    raise Unreachable(f"the model has no {word}: a layer with weights is needed, such as Conv or MatMul")


def without_slower_chains(
    options: dict[str, list[Candidate]], study: Study, choose: Callable[[], Decision]
) -> Decision:
    """The choice among options without chains that are measured to be slower; options loses those."""
    slow = ""
    while True:
        try:
            decision = choose()
        except Unreachable as error:
            raise Unreachable(f"{error}{slow}") from None
        losers = [name for name, ms in study.times(decision.plan).items() if is_slower(*ms)]
        if not losers:
            return decision
        for name in losers:
            options[name] = _cheaper_than(options[name], decision.plan[name])
        slow = "; chains that are slower here than their layers are out (nothing is timed with --no-compare)"


def _cheaper_than(found: Sequence[Candidate], step: PlanStep) -> list[Candidate]:
    """The candidates without that step and those of its method that cost more."""
    costs = [c.macs for c in found if (c.method, c.rank) == (step.method, step.rank)]
    return [c for c in found if c.method != step.method or c.macs < min(costs)]


def _from_given_plan(plan: Plan, study: Study) -> Decision:
    """The caller's plan; layers of it that can't be replaced have an edit with the reason already."""
    shared = {site.name: site.members for site in study.model.shared_input_sites}
    names = {*study.model.names, *shared}
    if unknown := [name for name in plan if name not in names]:
        raise BadPlan(
            f"the plan names {unknown[0]!r}, and the model has no such layer; `info` prints the names"
        )
    covered = Counter([*plan, *(member for name in plan for member in shared.get(name, ()))])
    if twice := [name for name, count in covered.items() if count > 1]:
        raise BadPlan(f"the plan cuts {twice[0]!r} twice, alone and with others: leave one of the steps out")
    skipped = [
        FactorizationEdit(layer=site.name, skipped="the plan doesn't name it")
        for site in study.sites
        if site.name not in covered
    ]
    replaceable = {site.name for site in study.places}
    steps = {name: step for name, step in plan.items() if name in replaceable}
    return Decision(plan=Plan(steps), skipped=skipped, firm=True)


def _within_error(goal: Goal, study: Study, at: Callable[[float], Decision], least: float) -> Decision:
    """The smallest fraction of MACs at which the whole model's error is within the goal, by bisection."""
    low, high = least, 1.0
    best: Decision | None = None
    for _ in range(BISECTION_STEPS):
        fraction = (low + high) / 2
        decision = at(fraction)
        comparison = study.compare(study.trial(decision.plan))
        gate.check(comparison, "give other samples (--data)")
        if comparison is not None and comparison.worst <= (goal.max_error or 0.0):
            best, high = decision, fraction
        else:
            low = fraction
    if best is None:
        raise Unreachable(
            f"no choice of ranks gave an error of at most {goal.max_error:g}: "
            "ask for less, or allow more layers and methods"
        )
    return best
