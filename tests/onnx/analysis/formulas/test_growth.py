"""Orders of growth, compared with the formula at doubled sizes."""

from __future__ import annotations

from math import log2

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.onnx.analysis.formulas.growth import growth

N, H, T = sympy.symbols("N H T", integer=True, positive=True)
NAMES = ["N", "H", "T"]


@pytest.mark.parametrize(
    ("formula", "order"),
    [
        (12, "1"),
        (7 * N, "N"),
        (N * sympy.floor(H / 2 - sympy.Rational(1, 2)) ** 2 + 100 * N * H, "N * H^2"),
        (sympy.ceiling(H / 3) * (N + 1), "N * H"),
        (3 * N * T**2 + 5 * N * T + 1, "N * T^2"),
        (N**2 + 9 * T * N, "N^2 + N * T"),
        (sympy.Min(64, T) * N, "N"),
        (sympy.Max(N, 2 * T), "N + T"),
        (sympy.Mod(T, 8) * N, "N"),
        ((T**2 + T) / (T + 1) * H, "H * T"),
        (sympy.floor(sympy.floor(H / 2) / 2) * T, "H * T"),
    ],
)
def test_orders(formula: sympy.Expr, order: str) -> None:
    assert growth(formula, NAMES) == order


@given(
    terms=st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4
    ),
    floors=st.booleans(),
)
def test_doubling_a_large_size_multiplies_by_its_power(
    terms: list[tuple[int, int, int]], floors: bool
) -> None:
    size = sympy.floor(H / 3) if floors else H
    formula = sum(c * N**a * size**b for c, a, b in terms)
    order = growth(formula, NAMES)
    for symbol in (N, H):
        power = (
            0
            if str(symbol) not in order
            else max(
                int(factor.partition("^")[2] or 1)
                for term in order.split(" + ")
                for factor in term.split(" * ")
                if factor.partition("^")[0] == str(symbol)
            )
        )
        fixed = {N: 3, H: 9} | {symbol: 3 * 2**40}
        ratio = sympy.Rational(formula.subs(fixed | {symbol: 3 * 2**41})) / formula.subs(fixed)
        assert abs(log2(float(ratio)) - power) < 0.01
