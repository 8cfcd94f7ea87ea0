"""Equations between open sizes: their solutions, and whether they have any."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import gcd
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from modelsurgeon.onnx.shapes.dimensions import expression_of
from modelsurgeon.onnx.shapes.requirements.registry import Relation, Requirement, Size

MAX_TRIED_SIZE = 4096  # of an equation that isn't linear
MAX_TRIED_LENGTH = 2**20  # of a signal
ROUND_SIZE = 2**10 * 3 * 5**4  # has the factors of usual sizes
MAX_TRIED_PAIR = 512  # of an equation in two sizes
EVALUATION_ERRORS = (ArithmeticError, AttributeError, NameError, TypeError, ValueError)


def only_solution(left: Size, right: Size) -> tuple[str, int] | None:
    """The symbol and its only positive size at which both sizes are equal; None of several, or of none."""
    return _solve(expression_of(left), expression_of(right))


def never_holds(requirement: Requirement) -> bool:
    """Whether two sizes that have to be equal differ at all sizes of their symbols, which may be 0."""
    left, right = requirement.left, requirement.right
    if requirement.relation is not Relation.EQUAL or not requirement.is_open or "" in requirement.symbols:
        return False
    return _has_no_root(expression_of(left), expression_of(right))


@cache
def _has_no_root(left: sympy.Expr, right: sympy.Expr) -> bool:
    difference = sympy.expand(left - right)
    names = sorted(difference.free_symbols, key=str)
    if names and difference.is_polynomial(*names) and _is_never_zero(sympy.Poly(difference, *names)):
        return True
    if len(names) != 1:
        return False
    values = _values(difference, names, np.arange(0, MAX_TRIED_SIZE + 1))
    if values is None or not np.isfinite(values).all():
        return False
    upwards = values * np.sign(values[-1])
    return bool((values != 0).all() and (np.diff(upwards) >= 0).all() and upwards[-1] > upwards[0])


def _is_never_zero(polynomial: sympy.Poly) -> bool:
    """Whether the sum of all other terms can't be the negative constant, by its divisor or its sign."""
    _, whole = polynomial.clear_denoms(convert=True)
    constant = int(whole.coeff_monomial(1))
    others = [int(factor) for powers, factor in whole.terms() if any(powers)]
    signs = {factor > 0 for factor in others}
    return constant % gcd(*others) != 0 or (constant != 0 and signs == {constant > 0})


def _values(
    expression: sympy.Expr, symbols: Sequence[sympy.Symbol], *sizes: NDArray[np.int64]
) -> NDArray[Any] | None:
    """The values at all sizes of the symbols, not finite where one is 0 below a stroke; None on an error."""
    try:
        with np.errstate(all="ignore"):
            found = sympy.lambdify(symbols, expression, "numpy")(*sizes)
    except EVALUATION_ERRORS:
        return None
    return np.broadcast_to(found, np.broadcast_shapes(*(each.shape for each in sizes)))


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
    values = _values(difference, [symbol], tried)
    if values is None:
        return []
    roots = tried[values == 0]
    return [] if len(roots) and roots[-1] == largest else [int(root) for root in roots]


def roots_of_one(requirement: Requirement, name: str) -> list[int]:
    """Sizes for a symbol at which both sides of a requirement are equal, round ones first."""
    difference = expression_of(requirement.left) - expression_of(requirement.right)
    symbol = sympy.Symbol(name, integer=True, positive=True)
    if difference.free_symbols != {symbol}:
        return []
    roots = _roots_tried(difference, symbol, MAX_TRIED_LENGTH)
    return sorted(roots, key=lambda root: (-gcd(root, ROUND_SIZE), root))


def roots_of_two(requirement: Requirement, first: str, second: str) -> list[tuple[int, int]]:
    """Sizes for two symbols at which both sides of a requirement are equal, nearly square ones first."""
    names = sympy.symbols([first, second], integer=True, positive=True)
    difference = expression_of(requirement.left) - expression_of(requirement.right)
    tried = np.arange(1, MAX_TRIED_PAIR + 1)
    if difference.free_symbols - set(names):
        return []
    values = _values(difference, names, tried[:, None], tried[None, :])
    if values is None:
        return []
    pairs = np.argwhere(values == 0) + 1
    return sorted(((int(a), int(b)) for a, b in pairs), key=lambda pair: (abs(pair[0] - pair[1]), -pair[0]))
