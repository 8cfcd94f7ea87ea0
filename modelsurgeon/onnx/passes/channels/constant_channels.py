"""What an operator makes of a channel that is one number everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.passes.channels.op_rules import MOVING, REDUCING

POOLING = frozenset(
    {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin"}
)
# Functions whose value is computed at 0 alone, where all of them are 0.
ZERO_AT_ZERO = frozenset(
    {"Celu", "Elu", "Erf", "Gelu", "HardSwish", "Mish", "Selu", "Sin", "Softsign", "Swish", "Tan"}
)


def of_numbers(node: ir.Node, values: Sequence[float | None]) -> float | None:
    """What a node gives everywhere, if its operands are these numbers; None where that isn't one number.

    values: None for an operand that is no single number.
    """
    keeps_zero = node.op_type in REDUCING | MOVING | ZERO_AT_ZERO
    if (keeps_zero and values[0] == 0) or (node.op_type == "Mul" and 0 in values):
        return 0.0
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if node.op_type in POOLING and (known[0] == 0 or not _counts_edge(node)):
        return known[0]
    made = OF_NUMBERS[node.op_type](node, *known) if node.op_type in OF_NUMBERS else np.nan
    return float(made) if np.isfinite(made) else None


def _counts_edge(node: ir.Node) -> bool:
    """Whether a mean takes in zeros at the edge."""
    edge = any(node.attributes.get_ints("pads", ())) or not {"auto_pad", "ceil_mode"}.isdisjoint(
        node.attributes
    )
    return node.op_type == "AveragePool" and edge and node.attributes.get_int("count_include_pad", 0) == 1


def _normalised(node: ir.Node, x: float, scale: float, shift: float, mean: float, var: float) -> float:
    return (x - mean) / float(np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))) * scale + shift


def _clipped(node: ir.Node, x: float, *ends: float) -> float:
    """NaN where a bound is left out among the inputs: which one isn't told."""
    if len(ends) == 1:
        return np.nan
    low, high = ends or [
        node.attributes.get_float(name, end) for name, end in (("min", -np.inf), ("max", np.inf))
    ]
    return min(max(x, low), high)


OF_NUMBERS: Mapping[str, Callable[..., float]] = {
    "Abs": lambda _, a: abs(a),
    "Add": lambda _, a, b: a + b,
    "BatchNormalization": _normalised,
    "Clip": _clipped,
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
}
