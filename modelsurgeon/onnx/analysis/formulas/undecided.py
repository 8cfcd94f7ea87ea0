"""Ifs whose condition depends on data: the more expensive branch counts, which may differ between sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import sympy

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.analysis.run_counter import BRANCH_ATTRIBUTES, RunCounter

# The default sizes times these are tried, all open sizes alike.
FACTORS = (*(Fraction(eighths, 8) for eighths in (1, 2, 3, 5, 8, 12, 16)), Fraction(4), Fraction(16))

Totals = dict[str, tuple[Number, Number]]  # MACs and FLOPs by branch


def changing_choices(counter: RunCounter, defaults: Mapping[str, int]) -> Iterator[str]:
    """A note on every If of which another branch is the more expensive one at other sizes.

    counter: has counted the model with open sizes, and chosen as at the default sizes.
    """
    for node in counter.undecided:
        name = counter.names[node]
        totals: Totals = {}
        for branch in BRANCH_ATTRIBUTES:
            runs = counter.fresh().count(node.attributes.get_graph(branch))
            total = sum((run.total for run in runs), Cost())
            totals[branch] = total.macs, total.flops
        chosen = counter.chosen[name]
        if any(_costlier(totals, sizes) not in (None, chosen) for sizes in _sizes(defaults)):
            yield f"{name}: {chosen} is counted, but at other sizes the other branch costs more"


def _sizes(defaults: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    for factor in FACTORS:
        yield {name: max(1, round(size * factor)) for name, size in defaults.items()}


def _costlier(totals: Totals, sizes: Mapping[str, int]) -> str | None:
    """The branch that counts at these sizes; None where they are too small for the model."""
    found = {branch: tuple(_value(number, sizes) for number in pair) for branch, pair in totals.items()}
    if any(number < 0 for pair in found.values() for number in pair):
        return None
    return max(BRANCH_ATTRIBUTES, key=lambda branch: found[branch])


def _value(number: Number, sizes: Mapping[str, int]) -> Number:
    if not isinstance(number, sympy.Basic):
        return number
    return number.subs({symbol: sizes.get(str(symbol), 1) for symbol in number.free_symbols})
