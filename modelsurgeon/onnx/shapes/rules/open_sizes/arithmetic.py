"""Arithmetic of sizes as ONNX defines it: integers stay integers, open sizes are sympy expressions.

Every function is exact at every size: where a result has another regime for small sizes, it is inside.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import sympy

from modelsurgeon.onnx.shapes.rules.parts import MIN_OPEN_END

# An int or a bool, or a sympy expression or condition where a symbol is open.
Entry = Any

MAX_SAMPLED_SIZE = 1 << 14  # a factor that isn't exact in binary is tried on all sizes up to this one
MAX_DENOMINATOR = 64
MAX_TERMS = 70
MAX_REMAINDER_TERMS = 4
LARGEST_INTEGERS = (2**31 - 1, 2**63 - 1)  # as ends of a slice backwards: the first entry is the last


def plain(entry: Entry) -> Entry:
    """The entry as an int or a bool where it is a number or a truth value."""
    if isinstance(entry, sympy.Integer):
        return int(entry)
    return bool(entry) if isinstance(entry, sympy.logic.boolalg.BooleanAtom) else entry


def is_open(entry: Entry) -> bool:
    """Whether an entry depends on a symbol."""
    return isinstance(entry, sympy.Basic) and bool(entry.free_symbols)


def is_readable(entry: Entry) -> bool:
    """Whether an expression is short enough for a formula, and for further steps to be quick."""
    if not is_open(entry):
        return True
    return sum(1 for _, _ in zip(sympy.preorder_traversal(entry), range(MAX_TERMS), strict=False)) < MAX_TERMS


def cancelled(quotient: sympy.Expr) -> sympy.Expr:
    """The quotient without common factors above and below, where these are quick to find."""
    slow = quotient.has(sympy.Max, sympy.Min, sympy.Piecewise) or not is_readable(quotient)
    return quotient if slow or not divides_by_symbols(quotient) else sympy.cancel(quotient)


def divides_by_symbols(entry: sympy.Expr) -> bool:
    """Whether a symbol is below a fraction stroke."""
    return any(power.exp.is_negative and power.free_symbols for power in entry.atoms(sympy.Pow))


def never_negative(entry: Entry) -> bool:
    """Whether an entry is at least 0 at all sizes, as far as that can be seen."""
    if isinstance(entry, int):
        return entry >= 0
    return bool(sympy.sympify(entry).is_nonnegative) or _is_remainder(entry)


def _is_remainder(entry: Entry) -> bool:
    """Whether an entry is a - n * floor(a / n) for a divisor that is never negative."""
    terms = entry.args if isinstance(entry, sympy.Add) else ()
    for term in terms if len(terms) <= MAX_REMAINDER_TERMS else ():
        for rounded in term.args if isinstance(term, sympy.Mul) else ():
            divisor, dividend = -term / rounded, entry - term
            if isinstance(rounded, sympy.floor) and rounded.args[0] * divisor == dividend:
                return bool(divisor.is_nonnegative)
    return False


def never_positive(entry: Entry) -> bool:
    """Whether an entry is at most 0 at all sizes, as far as that can be seen."""
    return bool(entry <= 0) if isinstance(entry, int) else bool(sympy.sympify(entry).is_nonpositive)


def smallest(one: Entry, other: Entry) -> Entry:
    """The smaller entry."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    if _is_multiple_around(one, other):
        return one if isinstance(one.args[1], sympy.floor) else other
    if _is_multiple_around(other, one):
        return other if isinstance(other.args[1], sympy.floor) else one
    return _compared(sympy.Min, one, other)


def _compared(function: type[sympy.Min | sympy.Max], one: Entry, other: Entry) -> Entry:
    """Min or Max of two entries; entries with cases are too slow to compare."""
    cases = any(isinstance(entry, sympy.Basic) and entry.has(sympy.Piecewise) for entry in (one, other))
    return plain(function(sympy.sympify(one), sympy.sympify(other), evaluate=not cases))


def _is_multiple_around(multiple: Entry, size: Entry) -> bool:
    """Whether an entry is a size rounded to a multiple: 4 * floor(n / 4) or 4 * ceiling(n / 4) for n."""
    if not isinstance(multiple, sympy.Mul) or len(multiple.args) != 2:
        return False
    factor, rounded = multiple.args
    rounds = factor.is_positive and isinstance(rounded, sympy.floor | sympy.ceiling)
    return bool(rounds) and factor * rounded.args[0] == size


def largest(one: Entry, other: Entry) -> Entry:
    """The larger entry."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    return _compared(sympy.Max, one, other)


def selected(condition: Entry, one: Entry, other: Entry) -> Entry:
    """One entry where the condition holds, the other elsewhere."""
    if isinstance(condition, bool) or one == other:
        return one if condition is True or one == other else other
    return sympy.Piecewise((one, condition), (other, True), evaluate=False)


def rejoined(total: Entry) -> Entry:
    """A sum in which two parts that an axis was cut into are the whole axis again.

    >>> n = sympy.Symbol("n", positive=True, integer=True)
    >>> rejoined(sympy.Min(2, n) + sympy.Max(0, n - 2) + 1)
    n + 1
    """
    terms = list(sympy.Add.make_args(total)) if is_open(total) else []
    for part, rest in product(terms, terms):
        if isinstance(part, sympy.Min) and isinstance(rest, sympy.Max) and len(part.args) == 2:
            for size, cut in (part.args, part.args[::-1]):
                if set(rest.args) == {sympy.Integer(0), size - cut}:
                    return rejoined(total - part - rest + size)
    return plain(total)


def floored(entry: Entry) -> Entry:
    """The entry rounded down."""
    if isinstance(entry, int):
        return entry
    return plain(sympy.Add(*map(_positive, sympy.Add.make_args(sympy.floor(entry)))))


def _positive(term: sympy.Expr) -> sympy.Expr:
    """The term with -floor(-n) as ceiling(n), which sympy knows to be positive."""
    factor, rounded = term.as_coeff_Mul()
    negative = isinstance(rounded, sympy.floor) and rounded.args[0].could_extract_minus_sign()
    return -factor * sympy.ceiling(-rounded.args[0]) if negative else term


def raised(entry: Entry) -> Entry:
    """The entry rounded up."""
    return entry if isinstance(entry, int) else plain(sympy.ceiling(entry))


def truncated(entry: Entry) -> Entry:
    """The entry rounded towards zero."""
    if isinstance(entry, int) or entry.is_integer:
        return entry
    if never_negative(entry):
        return floored(entry)
    if never_positive(entry):
        return raised(entry)
    return plain(floored(largest(entry, 0)) + raised(smallest(entry, 0)))


def ratio(one: Entry, other: Entry) -> Entry:
    """The exact quotient; None where the divisor is 0."""
    return None if other == 0 else plain(sympy.Rational(1) * one / other)


def truncated_quotient(one: Entry, other: Entry) -> Entry:
    """Quotient of integers, rounded towards zero as in Div; None where the divisor is 0."""
    exact = ratio(one, other)
    return None if exact is None else truncated(exact)


def floored_quotient(one: Entry, other: Entry) -> Entry:
    """Quotient of integers, rounded down."""
    return floored(ratio(one, other))


def raised_quotient(one: Entry, other: Entry) -> Entry:
    """Quotient of integers, rounded up, written with floor where the divisor is a number."""
    if isinstance(other, int):
        return floored(ratio(one + other - 1, other))
    return raised(ratio(one, other))


def remainder(one: Entry, other: Entry) -> Entry:
    """Remainder with the sign of the divisor, as in Mod; None where the divisor is 0.

    It is written with floor, which cancels in sums: n and what is missing to a multiple of 4 are together
    4 * ceiling(n / 4).
    """
    if other == 0:
        return None
    if isinstance(one, int) and isinstance(other, int):
        return one % other
    return plain(one - other * floored_quotient(one, other))


def truncated_remainder(one: Entry, other: Entry) -> Entry:
    """Remainder with the sign of the dividend, as in Mod with fmod."""
    if never_negative(one) and never_negative(other):
        return remainder(one, other)
    quotient = truncated_quotient(one, other)
    return None if quotient is None else plain(one - other * quotient)


def slice_size(size: Entry, start: Entry, end: Entry, step: int) -> Entry:
    """Number of elements in a slice of an axis, with the bounds clamped as onnxruntime does; None for step 0.

    >>> n = sympy.Symbol("n", positive=True, integer=True)
    >>> slice_size(n, 5, 9, 1), slice_size(n, 0, -1, 1), slice_size(n, -3, 1 << 62, 1)
    (Max(0, Min(9, n) - 5), n - 1, Min(3, n))
    """
    if step == 0:
        return None
    if step < 0 and end in LARGEST_INTEGERS:
        end = -size - 1
    (start, from_end), (end, _) = _bound_from_start(size, start), _bound_from_start(size, end)
    if step < 0:
        start = smallest(largest(start, 0), size - 1)
        end = smallest(largest(end, -1), size)
        return largest(0, raised_quotient(start - end, -step))
    # A start beyond the end gives a negative count, so it needs no limit above.
    end = smallest(end, size)
    count = smallest(end - start, end) if from_end else end - start
    return largest(0, raised_quotient(count, step))


def _bound_from_start(size: Entry, bound: Entry) -> tuple[Entry, bool]:
    """A bound counted from the start of the axis, and whether it may be negative."""
    if isinstance(bound, int) and abs(bound) >= MIN_OPEN_END:  # stands for the end, or for before the start
        return (size, False) if bound > 0 else (-1, True)
    if never_negative(bound):
        return bound, False
    if never_positive(bound + 1):
        return size + bound, True
    return selected(sympy.Ge(bound, 0), bound, size + bound), True


def rounded_once(entry: Entry) -> bool:
    """Whether a computation in floats may have rounded this entry: further steps would not be exact."""
    if isinstance(entry, int):
        return False
    divided = any(power.exp.is_negative for power in entry.atoms(sympy.Pow))
    return divided or any(not _is_short_binary(number) for number in entry.atoms(sympy.Rational))


def _is_short_binary(number: sympy.Rational) -> bool:
    denominator = int(number.q)
    return denominator & (denominator - 1) == 0 and denominator <= 1 << 12


def float_product(one: Entry, other: Entry) -> Entry:
    """Product of floats; None where its rounding can't be followed.

    A factor such as .7 isn't exact in binary. It is taken as the fraction that it stands for, if the product
    in floats and the exact one round to the same integers, up and down, at all sizes that are tried.
    """
    for size, factor in ((one, other), (other, one)):
        if isinstance(factor, sympy.Rational) and not _is_short_binary(factor):
            fraction = _simple_fraction(factor)
            followed = fraction is not None and isinstance(size, sympy.Basic) and size.is_integer
            return plain(fraction * size) if followed else None
    return None if rounded_once(one) or rounded_once(other) else plain(one * other)


def _simple_fraction(factor: sympy.Rational) -> sympy.Rational | None:
    import numpy as np

    simple = sympy.Rational(*_nearest_fraction(factor))
    sizes = np.arange(1, MAX_SAMPLED_SIZE, dtype=np.int64)
    products = sizes.astype(np.float32) * np.float32(float(factor))
    exact = sizes * int(simple.p)
    down = np.floor(products).astype(np.int64) == exact // int(simple.q)
    up = np.ceil(products).astype(np.int64) == -(-exact // int(simple.q))
    return simple if bool(down.all() and up.all()) else None


def _nearest_fraction(factor: sympy.Rational) -> tuple[int, int]:
    from fractions import Fraction

    nearest = Fraction(int(factor.p), int(factor.q)).limit_denominator(MAX_DENOMINATOR)
    return nearest.numerator, nearest.denominator
