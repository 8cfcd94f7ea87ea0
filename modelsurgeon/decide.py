"""From what is asked of a net to a plan for its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from modelsurgeon import candidates as ways
from modelsurgeon.candidates import Decision, Resource
from modelsurgeon.errors import BadPlan, Unreachable
from modelsurgeon.goal import Goal
from modelsurgeon.plan import Plan
from modelsurgeon.study import Study
from modelsurgeon.surgery import Edit

STEPS = 7  # of a bisection on the measured whole model: the fraction is found to about 1 %


def decide(goal: Goal, study: Study) -> Decision:
    """The plan that the goal asks for. Raises BadPlan and Unreachable."""
    if goal.plan is not None:
        return _replayed(goal.plan, study)
    if goal.rank is not None:
        return ways.by_rank(study.sites, goal.rank, study.methods)
    if goal.energy is not None:
        return ways.by_energy(study.sites, goal.energy, study.methods)
    resource: Resource = "macs" if goal.params is None else "params"
    options, broken = study.options(resource)
    total = study.patient.total(resource)
    fraction = goal.macs if goal.params is None else goal.params

    def at(fraction: float) -> Decision:
        decision = ways.by_budget(options, fraction, total, resource)
        return replace(decision, kept=[*decision.kept, *broken])

    if fraction is not None:
        return at(fraction)
    if study.judged is None:
        raise ValueError(
            "max_error and speedup are measured on the whole model: data must be there to run it"
        )
    return _measured(goal, study, at, ways.least(options, total, resource))


def _replayed(plan: Plan, study: Study) -> Decision:
    """A plan as given; its layers that can't be replaced here have their reason among the edits already."""
    names = study.patient.names
    if odd := [name for name in plan if name not in names]:
        raise BadPlan(f"the plan names {odd[0]!r}, and the model has no such layer; `info` prints the names")
    kept = [Edit(layer=s.name, skipped="the plan doesn't name it") for s in study.sites if s.name not in plan]
    here = {site.name for site in study.sites}
    return Decision(plan=Plan({name: step for name, step in plan.items() if name in here}), kept=kept)


def _measured(goal: Goal, study: Study, at: Callable[[float], Decision], least: float) -> Decision:
    """Bisect the fraction of MACs on what the whole model, so compressed, is measured to do."""
    holds = _fast_enough if goal.speedup is not None else _true_enough
    low, high = least, 1.0
    best: Decision | None = None
    for _ in range(STEPS):
        fraction = (low + high) / 2
        decision = at(fraction)
        good = holds(goal, study, decision.plan)
        best = decision if good else best
        # The smallest net within the error, or the largest that is fast enough.
        if good == (goal.speedup is None):
            high = fraction
        else:
            low = fraction
    if best is None:
        asked = (
            f"{goal.speedup:g} times the speed" if goal.speedup else f"an error of at most {goal.max_error:g}"
        )
        raise Unreachable(f"no choice of ranks gave {asked}: ask for less, or allow more layers and methods")
    return best


def _fast_enough(goal: Goal, study: Study, plan: Plan) -> bool:
    trial = study.trial(plan, quick=True)
    timed = None if study.judged is None else study.patient.twin().latency(trial, study.judged)
    if timed is None:
        raise Unreachable("a module is not timed: export it, and compress the export for a speedup")
    return bool(timed["speedup"] >= (goal.speedup or 1.0))


def _true_enough(goal: Goal, study: Study, plan: Plan) -> bool:
    comparison = study.compared(study.trial(plan))
    return comparison is not None and comparison.worst <= (goal.max_error or 0.0)
