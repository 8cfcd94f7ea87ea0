"""Open sizes that weights, constants and fixed sizes of a model leave no choice for.

A requirement with one open symbol is an equation: its only solution is the size of the symbol. A size that
may broadcast is taken as that of the constant that it meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
import onnx_ir as ir
import sympy

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import symbols
from modelsurgeon.onnx.shapes.impossible import open_requirements
from modelsurgeon.onnx.shapes.requirements import Relation, Requirement

PINNED_KEY = "modelsurgeon.pinned"  # model.meta: the sizes that were deduced, in order
MAX_TRIED_SIZE = 4096  # of an equation that isn't linear
MAX_TRIED_LENGTH = 2**20  # of a signal
ROUND_SIZE = 2**10 * 3 * 5**4  # has the factors of usual sizes
MAX_TRIED_PAIR = 512  # of an equation in two sizes
EVALUATION_ERRORS = (ArithmeticError, AttributeError, NameError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class PinnedSize:
    """A symbol with the only size that a node allows. position: of the node among all of the model."""

    symbol: str
    size: int
    position: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FittedSizes:
    """Symbols whose default sizes are chosen to fit a node. position: of it among all of the model."""

    symbols: tuple[str, ...]
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
        if requirement.symbols <= known:
            yield node, requirement


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


def _roots_tried(difference: sympy.Expr, symbol: sympy.Symbol, largest: int = MAX_TRIED_SIZE) -> list[int]:
    """All roots among the sizes that are tried; none where one may be larger, or it can't be computed."""
    tried = np.arange(1, largest + 1)
    try:
        values = np.broadcast_to(sympy.lambdify(symbol, difference, "numpy")(tried), tried.shape)
    except EVALUATION_ERRORS:
        return []
    roots = tried[values == 0]
    return [] if len(roots) and roots[-1] == largest else [int(root) for root in roots]


def roots_of_one(requirement: Requirement, name: str) -> list[int]:
    """Sizes for a symbol at which both sides of a requirement are equal, round ones first."""
    difference = _expression(requirement.left) - _expression(requirement.right)
    symbol = sympy.Symbol(name, integer=True, positive=True)
    if difference.free_symbols != {symbol}:
        return []
    roots = _roots_tried(difference, symbol, MAX_TRIED_LENGTH)
    return sorted(roots, key=lambda root: (-gcd(root, ROUND_SIZE), root))


def fitted_sizes(model: ir.Model) -> list[FittedSizes]:
    """Requirements of fixed sizes that several default sizes of a bound model may fulfil."""
    found = [
        (node, requirement)
        for node, requirement in known_requirements(model)
        if requirement.relation is Relation.EQUAL
        and (isinstance(requirement.left, int) or isinstance(requirement.right, int))
    ]
    positions = {node: number for number, node in enumerate(nodes(model))} if found else {}
    return [
        FittedSizes(symbols=tuple(sorted(fitted.symbols)), position=positions[node], reason=fitted.reason)
        for node, fitted in found
    ]


def roots_of_two(requirement: Requirement, first: str, second: str) -> list[tuple[int, int]]:
    """Sizes for two symbols at which both sides of a requirement are equal, nearly square ones first."""
    names = sympy.symbols([first, second], integer=True, positive=True)
    difference = _expression(requirement.left) - _expression(requirement.right)
    tried = np.arange(1, MAX_TRIED_PAIR + 1)
    if difference.free_symbols - set(names):
        return []
    try:
        values = sympy.lambdify(names, difference, "numpy")(tried[:, None], tried[None, :])
    except EVALUATION_ERRORS:
        return []
    pairs = np.argwhere(np.broadcast_to(values, (len(tried), len(tried))) == 0) + 1
    return sorted(((int(a), int(b)) for a, b in pairs), key=lambda pair: (abs(pair[0] - pair[1]), -pair[0]))
