"""Open sizes that weights, constants and fixed sizes of a model leave no choice for.

A requirement with one open symbol is an equation: its only solution is the size of the symbol. A size that
may broadcast is taken as that of the constant that it meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir
import sympy

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import symbols
from modelsurgeon.onnx.shapes.impossible import open_requirements
from modelsurgeon.onnx.shapes.requirements import Relation, Requirement

PINNED_KEY = "modelsurgeon.pinned"  # model.meta: the sizes that were deduced, in order
MAX_TRIED_SIZE = 4096  # of an equation that isn't linear
EVALUATION_ERRORS = (ArithmeticError, AttributeError, NameError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class PinnedSize:
    """A symbol with the only size that a node allows. position: of the node among all of the model."""

    symbol: str
    size: int
    position: int
    reason: str


def pinned(model: ir.Model) -> list[PinnedSize]:
    """The sizes that were deduced for symbols of a bound model."""
    found: list[PinnedSize] = model.meta.setdefault(PINNED_KEY, [])
    return found


def deduced_sizes(model: ir.Model) -> list[PinnedSize]:
    """Sizes that follow from the shapes of a bound model, one for each symbol; empty where none does.

    Sizes that may also be 1, as they broadcast, are deduced only where nothing else follows.
    """
    certain: dict[str, PinnedSize] = {}
    likely: dict[str, PinnedSize] = {}
    positions: dict[ir.Node, int] = {}
    for node, requirement in known_requirements(model):
        solution = _solution(requirement)
        if solution is not None:
            symbol, size = solution
            positions = positions or {other: number for number, other in enumerate(nodes(model))}
            kept = certain if _is_equation(requirement) else likely
            kept.setdefault(
                symbol,
                PinnedSize(symbol=symbol, size=size, position=positions[node], reason=requirement.reason),
            )
    return list((certain or likely).values())


def known_requirements(model: ir.Model) -> Iterator[tuple[ir.Node, Requirement]]:
    """Requirements of open sizes that depend on nothing but the symbols of a bound model's inputs."""
    known = frozenset(symbols(model))
    for requirement, node in open_requirements(model).items():
        if _symbols_of(requirement) <= known:
            yield node, requirement


def _symbols_of(requirement: Requirement) -> set[str]:
    found: set[str] = set()
    for size in (requirement.left, requirement.right):
        if not isinstance(size, int):
            # A size without a name is a symbol that nobody knows.
            found |= size.free_symbols() if size.value is not None else {""}
    return found


def _is_equation(requirement: Requirement) -> bool:
    """Whether both sizes must be equal, and neither may be 1 instead."""
    left, relation = requirement.left, requirement.relation
    return relation is Relation.EQUAL or (relation is Relation.SPREADS and isinstance(left, int) and left > 1)


def _solution(requirement: Requirement) -> tuple[str, int] | None:
    """The symbol and its only positive size; None where there are several, or none."""
    relation, left, right = requirement.relation, requirement.left, requirement.right
    if relation in (Relation.AT_LEAST, Relation.DIVIDED_BY):
        return None
    if not _is_equation(requirement):
        number = left if isinstance(left, int) else right
        if not isinstance(number, int) or number < 2 or (relation is Relation.SPREADS and number is left):
            return None
    return _solve(_expression(left), _expression(right))


def _expression(size: int | ir.SymbolicDim) -> sympy.Expr:
    # onnx_ir has no public name for the expression of a dimension.
    return sympy.Integer(size) if isinstance(size, int) else size._expr


@cache
def _solve(left: sympy.Expr, right: sympy.Expr) -> tuple[str, int] | None:
    if left == 0 or right == 0:
        return None
    numerator, denominator = sympy.fraction(left / right)
    difference = sympy.expand(numerator - denominator)
    if len(difference.free_symbols) != 1:
        return None
    (symbol,) = difference.free_symbols
    sizes = _linear_root(difference, symbol)
    if sizes is None:
        sizes = _roots_tried(difference, symbol)
    return (str(symbol), sizes[0]) if len(sizes) == 1 else None


def _linear_root(difference: sympy.Expr, symbol: sympy.Symbol) -> list[int] | None:
    """The positive integer root of a linear polynomial; None of another expression."""
    if not difference.is_polynomial(symbol) or sympy.degree(difference, symbol) != 1:
        return None
    slope, offset = difference.coeff(symbol, 1), difference.coeff(symbol, 0)
    root = -offset / slope
    return [int(root)] if root.is_integer and root > 0 else []


def _roots_tried(difference: sympy.Expr, symbol: sympy.Symbol) -> list[int]:
    """All roots among the sizes that are tried; none where one may be larger, or it can't be computed."""
    tried = np.arange(1, MAX_TRIED_SIZE + 1)
    try:
        values = np.broadcast_to(sympy.lambdify(symbol, difference, "numpy")(tried), tried.shape)
    except EVALUATION_ERRORS:
        return []
    roots = tried[values == 0]
    return [] if len(roots) and roots[-1] == MAX_TRIED_SIZE else [int(root) for root in roots]
