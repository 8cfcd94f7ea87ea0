"""Conditions that follow from sizes: which branch an If takes, as a formula in open sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import sympy

from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.shapes.dimensions import CONTENTS_KEY, Condition, Expression, expression_of, integer_of

PASSING_OPERATORS = frozenset({"Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
COMPARISONS: Mapping[str, Callable[..., Condition]] = {
    "Equal": sympy.Eq,
    "Greater": sympy.Gt,
    "GreaterOrEqual": sympy.Ge,
    "Less": sympy.Lt,
    "LessOrEqual": sympy.Le,
}
COMBINATIONS: Mapping[str, Callable[..., Condition]] = {
    "And": sympy.And,
    "Not": sympy.Not,
    "Or": sympy.Or,
    "Xor": sympy.Xor,
}
ARITHMETIC: Mapping[str, Callable[..., Expression]] = {
    "Add": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "Sub": lambda a, b: a - b,
}


def branch_condition(node: ir.Node) -> Condition | None:
    """The condition of an If as a formula in sizes; None where it depends on data."""
    return condition_of(node.inputs[0]) if node.inputs else None


def opposite(condition: Condition) -> Condition:
    """The opposite of a condition, written without negations: `N <= 4` for `N > 4`."""
    return sympy.to_nnf(~condition, simplify=False)


def condition_of(value: ir.Value | None) -> Condition | None:
    """A truth value as a formula in sizes; None where it depends on data."""
    constant = scalar_constant(value)
    if constant is not None:
        return sympy.true if constant else sympy.false
    if value is None or (node := value.producer()) is None or node.domain:
        return None
    if (followed := _followed_condition(value)) is not None:
        return followed
    if node.op_type in COMPARISONS:
        compared = _combined(COMPARISONS[node.op_type], [_number(operand) for operand in node.inputs])
        return getattr(compared, "canonical", compared)
    if node.op_type in COMBINATIONS:
        return _combined(COMBINATIONS[node.op_type], [condition_of(operand) for operand in node.inputs])
    return _passed_condition(node.inputs[0]) if node.op_type in PASSING_OPERATORS and node.inputs else None


def _followed_condition(value: ir.Value | None) -> Condition | None:
    """The truth value that inference followed through the operators that compute it."""
    entries = None if value is None else value.meta.get(CONTENTS_KEY)
    entry = entries.item() if entries is not None and entries.size == 1 else None
    is_condition = isinstance(entry, sympy.logic.boolalg.Boolean) and not isinstance(entry, sympy.Expr)
    return getattr(entry, "canonical", entry) if is_condition else None


def _passed_condition(source: ir.Value | None) -> Condition | None:
    """A truth value, or whether a number differs from 0."""
    if source is None or source.dtype is None or source.dtype == ir.DataType.BOOL:
        return condition_of(source)
    number = _number(source)
    return None if number is None else sympy.Ne(number, 0)


def _combined(combine: Callable[..., Condition], parts: list[Any]) -> Condition | None:
    return None if any(part is None for part in parts) else combine(*parts)


def _number(value: ir.Value | None) -> Expression | None:
    """A single number as a formula in sizes; None where it depends on data."""
    integer = integer_of(value)
    if integer is not None:
        return expression_of(integer)
    constant = scalar_constant(value)
    if constant is not None:
        return sympy.nsimplify(constant, rational=True)
    node = value.producer() if value is not None else None
    if node is None or node.domain or not _has_one_element(value):
        return None
    if node.op_type in PASSING_OPERATORS and _keeps_number(node):
        return _number(node.inputs[0])
    if node.op_type in ARITHMETIC:
        return _combined(ARITHMETIC[node.op_type], [_number(operand) for operand in node.inputs])
    return None


def _keeps_number(node: ir.Node) -> bool:
    """Whether a Cast, if it is one, keeps every number that a size may be."""
    source, output = node.inputs[0], node.outputs[0]
    integers = source is not None and source.dtype is not None and source.dtype.is_integer()
    return node.op_type not in ("Cast", "CastLike") or (integers and output.dtype != ir.DataType.BOOL)


def _has_one_element(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and all(size == 1 for size in value.shape)
