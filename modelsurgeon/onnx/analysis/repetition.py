"""Runs of the nodes in a loop, summed over its iterations, where these differ from each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import sympy

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.costs import Uncounted
from modelsurgeon.onnx.shapes.dimensions import Condition

MAX_SUMMED_ITERATIONS = 1024
WITHOUT_SUM = Uncounted(reason="its cost changes between iterations in a way that can't be summed")


def where(condition: Condition) -> Number:
    """1 where a condition is met, else 0."""
    return sympy.Piecewise((1, condition), (0, True))


def varies(run: NodeRun, iteration: Number) -> bool:
    """Whether the cost of a run, or how often it runs, has expressions in the number of the iteration."""
    costs = [run.varying or run.cost]
    parts = [part for cost in costs if isinstance(cost, Cost) for part in vars(cost).values()]
    return any(_has(part, iteration) for part in (run.times, *parts))


def summed_run(run: NodeRun, trips: Number | None, iteration: Number) -> NodeRun:
    """A run in all iterations, numbered from 1; in the first where the number of iterations is unknown."""

    def at_first(number: Number) -> Number:
        return _plain(number.subs(iteration, 1).doit()) if _has(number, iteration) else number

    cost = _mapped(run.cost, at_first) if isinstance(run.cost, Cost) else run.cost
    if trips is None:
        varying = None if run.varying is None else _mapped(run.varying, at_first)
        return replace(run, cost=cost, times=at_first(run.times), varying=varying)
    times = _sum(run.times, iteration, trips)
    total = {key: _sum(part, iteration, trips) for key, part in vars(run.total).items()}
    if times is None or None in total.values():
        return replace(run, cost=WITHOUT_SUM, times=trips if times is None else times, varying=None)
    return replace(run, cost=cost, times=times, varying=Cost(**total) if isinstance(cost, Cost) else None)


def _mapped(cost: Cost, change: Callable[[Number], Number]) -> Cost:
    return Cost(**{key: change(part) for key, part in vars(cost).items()})


def _has(number: Number, symbol: Number) -> bool:
    return isinstance(number, sympy.Basic) and symbol in number.free_symbols


@cache
def _sum(number: Number, iteration: Number, trips: Number) -> Number | None:
    """The sum of an expression over all iterations; None where there is no formula for it."""
    if not _has(number, iteration):
        return number * trips
    if number.is_polynomial(iteration):
        return _plain(sympy.expand(sympy.summation(sympy.expand(number), (iteration, 1, trips))))
    if not isinstance(trips, int | sympy.Integer) or trips > MAX_SUMMED_ITERATIONS:
        return None
    terms = (sympy.sympify(number.subs(iteration, index)).doit() for index in range(1, int(trips) + 1))
    return _plain(sympy.Add(*terms))


def _plain(number: Number) -> Number:
    """A sympy integer as an int; other expressions as they are."""
    return int(number) if isinstance(number, sympy.Integer) else number
