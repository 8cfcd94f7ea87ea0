"""Outputs of operators on constant channels, those that are one number everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.passes.channels.op_rules import REDUCING, SPATIAL

POOLING = frozenset(
    {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin"}
)
# Functions that are evaluated only at 0, where all of them are 0.
ZERO_AT_ZERO = frozenset(
    {"Celu", "Elu", "Erf", "Gelu", "HardSwish", "Mish", "Selu", "Sin", "Softsign", "Swish", "Tan"}
)
WIDE_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)  # a Cast to them keeps the numbers, up to rounding


def constant_output(node: ir.Node, values: Sequence[float | None]) -> float | None:
    """The one number that a node outputs everywhere for these operands; None where none is known.

    values: one per operand; None for one that isn't a single number.
    """
    keeps_zero = node.op_type in REDUCING | SPATIAL | ZERO_AT_ZERO
    if (keeps_zero and values[0] == 0) or (node.op_type == "Mul" and 0 in values):
        return 0.0
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if node.op_type in POOLING and (known[0] == 0 or not _counts_padding(node)):
        return known[0]
    output = SCALAR_FUNCTIONS[node.op_type](node, *known) if node.op_type in SCALAR_FUNCTIONS else np.nan
    return float(output) if np.isfinite(output) else None


def _counts_padding(node: ir.Node) -> bool:
    """Whether a mean includes zeros of the padding."""
    padded = any(node.attributes.get_ints("pads", ())) or not {"auto_pad", "ceil_mode"}.isdisjoint(
        node.attributes
    )
    return node.op_type == "AveragePool" and padded and node.attributes.get_int("count_include_pad", 0) == 1


def _batch_norm(node: ir.Node, x: float, scale: float, shift: float, mean: float, var: float) -> float:
    return (x - mean) / float(np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))) * scale + shift


def _clip(node: ir.Node, x: float, *bounds: float) -> float:
    """NaN where one of the two bounds is missing: which one isn't known here."""
    if len(bounds) == 1:
        return np.nan
    low, high = bounds or [
        node.attributes.get_float(name, bound) for name, bound in (("min", -np.inf), ("max", np.inf))
    ]
    return min(max(x, low), high)


SCALAR_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "Abs": lambda _, a: abs(a),
    "Add": lambda _, a, b: a + b,
    "BatchNormalization": _batch_norm,
    "Cast": lambda node, a: a if node.attributes.get_int("to", 0) in WIDE_FLOATS else np.nan,
    "Clip": _clip,
    "Div": lambda _, a, b: a / b if b else np.nan,
    "Dropout": lambda _, a, *_ratio: a,
    "Identity": lambda _, a: a,
    "LeakyRelu": lambda node, a: a if a > 0 else a * node.attributes.get_float("alpha", 0.01),
    "Max": lambda _, *a: max(a),
    "Min": lambda _, *a: min(a),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, a: -a,
    "PRelu": lambda _, a, slope: a if a > 0 else a * slope,
    "Relu": lambda _, a: max(a, 0.0),
    "Sigmoid": lambda _, a: 1 / (1 + float(np.exp(-a))),
    "Sub": lambda _, a, b: a - b,
    "Sum": lambda _, *a: sum(a),
    "Tanh": lambda _, a: float(np.tanh(a)),
    "Transpose": lambda _, a: a,
}
