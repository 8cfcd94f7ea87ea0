"""Inputs of operators that steer it, whatever they hold, and single numbers that only scale."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS

Use = tuple[ir.Node, int]  # a node, and which of its inputs

MICROSOFT = "com.microsoft"
# Operators of the standard and of onnxruntime's domain, and the indices of the inputs that steer them.
STEERING_INPUTS: dict[str, frozenset[int]] = {
    op: frozenset(inputs)
    for op, inputs in {
        "Adagrad": {0, 1},
        "Adam": {0, 1},
        "AffineGrid": {1},
        "BeamSearch": set(range(1, 12)),
        "Bernoulli": set(),
        "BiasDropout": {3, 4},
        "BitmaskBiasDropout": {3, 4},
        "BitmaskDropout": {1, 2},
        "BlackmanWindow": {0},
        "CastLike": {1},
        "Clip": {1, 2},
        "CropAndResize": {1, 2, 3},
        "Dropout": {1, 2},
        "DropoutGrad": {2, 3},
        "GreedySearch": set(range(1, 8)),
        "HammingWindow": {0},
        "HannWindow": {0},
        "MaxRoiPool": {1},
        "MelWeightMatrix": {0, 1, 2, 3, 4},
        "Momentum": {0, 1},
        "NonMaxSuppression": {2, 3, 4},
        "OneHot": {1, 2},
        "Pad": {1, 2, 3},
        "Range": {0, 1, 2},
        "Resize": {1, 2, 3},
        "RoiAlign": {1, 2},
        "Sampling": set(range(1, 9)),
        "Upsample": {1},
        "WhisperBeamSearch": set(range(1, 15)),
    }.items()
}
# Operators through which a size, or the number of it that it is multiplied by, gets to such an input, or to
# one of `SHAPE_INPUTS`.
SIZE_ARITHMETIC = frozenset(
    (
        *(
            "Add",
            "Cast",
            "Ceil",
            "Concat",
            "Div",
            "Floor",
            "Gather",
            "Identity",
            "Max",
            "Min",
            "Mul",
            "Reshape",
        ),
        *("Round", "Slice", "Squeeze", "Sub", "Unsqueeze"),
    )
)
SHAPE_INPUTS: dict[str, frozenset[int]] = {
    "ConstantOfShape": frozenset({0}),
    "Expand": frozenset({1}),
    "Reshape": frozenset({1}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Tile": frozenset({1, 2}),
    "TopK": frozenset({1}),
}
MAX_SIZES = 8  # elements of a constant that is followed through arithmetic of sizes
MAX_STEPS = 12
# Operators in which a single number is a factor, a bound or an exponent. What is added may be a bias.
SCALING_OPERATORS = frozenset(
    (
        *("Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul"),
        *("Pow", "Sub", "Where"),
    )
)
# Parts of names that exporters give to constants of their own.
CONSTANT_WORDS = frozenset({"auto", "cast", "const", "constant", "constants", "helper", "val"})
MODULE_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
TENSORFLOW_VARIABLE = "ReadVariableOp"


def steered(uses: Sequence[Use], elements: int) -> str | None:
    """The operator that a value only steers, as a reason; None where it has another use, too.

    A value of few elements may do so through arithmetic of sizes. elements: their number.
    """
    reached: Sequence[Use] = uses
    for _ in range(MAX_STEPS if elements <= MAX_SIZES else 1):
        between = [node for node, index in reached if not _steers(node, index)]
        if not between:
            return f"it steers {reached[0][0].op_type}" if reached else None
        if not all(_is_size_arithmetic(node) for node in between):
            return None
        results = [value for node in dict.fromkeys(between) for value in node.outputs]
        reached = [use for value in results for use in value.uses()]
    return None


def _steers(node: ir.Node, index: int) -> bool:
    if index in STEERING_INPUTS.get(node.op_type, ()):
        return node.domain in STANDARD_DOMAINS or node.domain == MICROSOFT
    return index in SHAPE_INPUTS.get(node.op_type, ()) and node.domain in STANDARD_DOMAINS


def _is_size_arithmetic(node: ir.Node) -> bool:
    if node.op_type not in SIZE_ARITHMETIC or node.domain not in STANDARD_DOMAINS:
        return False
    return all(value.uses() and not value.is_graph_output() for value in node.outputs)


def is_single_factor(name: str | None, uses: Sequence[Use]) -> bool:
    """Whether a value of one element only scales, bounds or is compared, and no module calls it its own."""
    return all(
        node.op_type in SCALING_OPERATORS and node.domain in STANDARD_DOMAINS for node, _ in uses
    ) and not is_name_of_a_param(name or "")


def is_name_of_a_param(name: str) -> bool:
    """Whether a name is a path to a param of a module, such as `blocks.0.gamma`.

    Exporters name constants of their own otherwise: `onnx::Mul_12`, `/blocks/Constant_output_0`, `val_3`.
    """
    if TENSORFLOW_VARIABLE in name:
        return True
    return bool(MODULE_PATH.fullmatch(name)) and CONSTANT_WORDS.isdisjoint(name.lower().split("."))
