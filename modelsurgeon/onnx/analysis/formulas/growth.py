"""Order of growth of a cost: the terms of its formula that outgrow all others for large sizes."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from modelsurgeon.inspection.cost import Number

Powers = tuple[sympy.Rational, ...]


def growth(formula: Number, symbols: Sequence[str]) -> str:
    """The order of growth, such as `N * T^2`; `1` for a constant.

    Rounding doesn't change an order, Max and cases grow like the sum, and a Min with a number is at most
    that number. Terms of which none outgrows the other are added.

    >>> import sympy
    >>> n, t = sympy.symbols("n t", positive=True, integer=True)
    >>> growth(8 * n * t**2 + 3 * n * t + sympy.floor(t / 2) * 5, ["n", "t"])
    'n * t^2'
    >>> growth(n**2 + n * t + 7, ["n", "t"]), growth(sympy.Min(64, n) * t, ["n", "t"]), growth(12, [])
    ('n^2 + n * t', 't', '1')
    """
    by_name = {str(symbol): symbol for symbol in getattr(formula, "free_symbols", ())}
    variables = [by_name[name] for name in symbols if name in by_name]
    if not variables:
        return "1"
    leading = _leading(_order(formula), variables)
    return " + ".join(_product(powers, variables) for powers in leading)


def _order(formula: sympy.Basic) -> sympy.Expr:
    """The formula without floor, ceiling, Max, Mod, Min and cases, which don't change its order."""
    if not formula.free_symbols or formula.is_Symbol:
        return formula
    if isinstance(formula, sympy.Min):
        return _order(_limit(*formula.args))
    if isinstance(formula, sympy.Piecewise):
        return sympy.Add(*(_order(case) for case, _ in formula.args))
    if isinstance(formula, sympy.Mod):
        return _order(formula.args[1])
    parts = [_order(part) for part in formula.args]
    if isinstance(formula, sympy.floor | sympy.ceiling):
        return parts[0]
    return sympy.Add(*parts) if isinstance(formula, sympy.Max) else formula.func(*parts)


def _limit(*sizes: sympy.Expr) -> sympy.Expr:
    """The first number among the arguments of Min, or their first one where none is a number."""
    return next((size for size in sizes if not size.free_symbols), sizes[0])


def _leading(formula: sympy.Expr, variables: Sequence[sympy.Symbol]) -> list[Powers]:
    """Powers of the variables in the terms that no other term outgrows, the highest first."""
    found = {_powers(term, variables) for term in sympy.Add.make_args(sympy.expand(formula))}
    return sorted(
        (powers for powers in found if not any(_outgrows(other, powers) for other in found)), reverse=True
    )


def _powers(term: sympy.Expr, variables: Sequence[sympy.Symbol]) -> Powers:
    above, below = sympy.fraction(sympy.together(term))
    return tuple(_degree(above, variable) - _degree(below, variable) for variable in variables)


def _degree(expression: sympy.Expr, variable: sympy.Symbol) -> sympy.Rational:
    """The highest power of a variable in a product or a sum."""
    if expression.is_Pow and expression.exp.is_Rational:
        return expression.exp * _degree(expression.base, variable)
    if expression.is_Mul:
        return sum((_degree(factor, variable) for factor in expression.args), sympy.Integer(0))
    if expression.is_Add:
        return max(_degree(term, variable) for term in expression.args)
    return sympy.Integer(expression == variable)


def _outgrows(powers: Powers, other: Powers) -> bool:
    return powers != other and all(a >= b for a, b in zip(powers, other, strict=True))


def _product(powers: Powers, variables: Sequence[sympy.Symbol]) -> str:
    factors = [
        str(variable) if power == 1 else f"{variable}^{power}"
        for variable, power in zip(variables, powers, strict=True)
        if power
    ]
    return " * ".join(factors) or "1"
