"""Arithmetic of sizes that are numbers or symbolic expressions, and integers that inference computed."""

from __future__ import annotations

import json
from typing import Any

import onnx_ir as ir
import sympy
from onnx_shape_inference import SYM_DATA_KEY

from modelsurgeon.onnx.graph.constant_folding import small_constant

CONTENTS_KEY = "modelsurgeon.contents"  # value.meta: an array of entries; None where one isn't known

Dim = int | ir.SymbolicDim
Expression = Any  # of sympy, which has no type hints
Condition = Any  # a sympy Boolean: a comparison, a combination of some, or true or false


def expression_of(dim: Dim) -> Expression:
    """A size as a sympy expression; None where it has no name."""
    # onnx_ir has no public name for the expression of a dimension.
    return sympy.Integer(dim) if isinstance(dim, int) else dim._expr


def as_dim(expression: Expression) -> Dim:
    """A sympy expression as a size: a plain number where it is one."""
    number = sympy.sympify(expression)
    return int(number) if number.is_Integer else ir.SymbolicDim(number)


def sum_of(first: Dim | None, second: Dim | None, sign: int = 1) -> Dim | None:
    """The sum of two sizes, or with sign -1 their difference; None where one is unknown."""
    return None if first is None or second is None else _combined(first, second, lambda a, b: a + sign * b)


def product_of(first: Dim | None, second: Dim | None) -> Dim | None:
    """The product of two sizes; None where one is unknown."""
    return None if first is None or second is None else _combined(first, second, lambda a, b: a * b)


def _combined(first: Dim, second: Dim, operation: Any) -> Dim | None:  # noqa: ANN401
    if isinstance(first, int) and isinstance(second, int):
        return int(operation(first, second))
    pair = expression_of(first), expression_of(second)
    return None if None in pair else as_dim(operation(*pair))


def integers_of(value: ir.Value | None) -> list[Dim] | None:
    """The integers in a constant, or those that inference computed for a value; None where unknown."""
    if value is None:
        return None
    array = small_constant(value)
    if array is not None:
        return [int(entry) for entry in array.ravel()] if array.dtype.kind in "iu" else None
    entries = value.meta.get(CONTENTS_KEY)
    if entries is not None and all(isinstance(entry, int | sympy.Expr) for entry in entries.flat):
        return [as_dim(entry) for entry in entries.flat]
    text = value.metadata_props.get(SYM_DATA_KEY)
    try:
        return None if text is None else [_parsed(entry) for entry in json.loads(text)]
    except ValueError:  # an expression with functions that onnx_ir can't read
        return None


def integer_of(value: ir.Value | None) -> Dim | None:
    """The one integer in a value, as `integers_of` finds it."""
    found = integers_of(value)
    return found[0] if found is not None and len(found) == 1 else None


def _parsed(entry: int | str) -> Dim:
    return entry if isinstance(entry, int) else as_dim(expression_of(ir.SymbolicDim(entry)))
