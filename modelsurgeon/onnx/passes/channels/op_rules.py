"""Channel rules: operators that scale with their input, and those that work on each channel separately."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import UNARY
from modelsurgeon.onnx.passes.pads import pads_positions_only

SIZES_INPUT_COUNT = 4  # inputs of a Resize that names sizes

HOMOGENEOUS_UNARY = frozenset(
    {"Abs", "AveragePool", "Dropout", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Identity"}
    | {"LeakyRelu", "LpPool", "MaxPool", "Neg", "Relu"}
)
COMBINING = frozenset({"Add", "Max", "Mean", "Min", "Sub", "Sum"})
ADDITIVE = frozenset({"Add", "Sub"})
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
REDUCING = frozenset({"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
MULTIPLICATIVE = frozenset({"Div", "Mul", "PRelu"})
ELEMENTWISE = UNARY | COMBINING | MULTIPLICATIVE | {"Abs", "Dropout", "Identity", "Pow"}
SPATIAL = frozenset({"Pad", "Resize", "Slice", "Upsample"})


@dataclass(frozen=True, kw_only=True)
class ChannelRules:
    """Operators that pass channels on. unary: with one data input. combining: with several of one shape.

    with_constants: those of them that may have a constant operand. rewritten: operators whose constants are
    rewritten with the channels, and so must be known. broadcasting: whether values may be broadcast over
    positions. norms: whether batch norms by stored statistics pass channels on, too.
    unknown_reason: the reason for all other operators, after the operator's name.
    """

    unary: frozenset[str]
    combining: frozenset[str]
    with_constants: frozenset[str]
    rewritten: frozenset[str]
    broadcasting: bool
    norms: bool
    unknown_reason: str


HOMOGENEOUS = ChannelRules(
    unary=HOMOGENEOUS_UNARY,
    combining=COMBINING,
    with_constants=ADDITIVE,
    rewritten=ADDITIVE,
    broadcasting=False,
    norms=False,
    unknown_reason="isn't known to scale with its input",
)
CHANNELWISE = ChannelRules(
    unary=HOMOGENEOUS_UNARY | UNARY,
    combining=COMBINING | {"Div", "Mul", "Pow"},
    with_constants=COMBINING | {"Div", "Mul", "Pow"},
    rewritten=COMBINING | MULTIPLICATIVE | {"BatchNormalization", "Pow"},
    broadcasting=True,
    norms=True,
    unknown_reason="isn't known to work on each channel by itself",
)


def channel_axis(node: ir.Node, array: Array, ndim: int, channels: int = 1) -> int | None:
    """The axis of a node's constant operand that has one number per channel; None where there is none.

    ndim, channels: the number of axes of the node's output, and its channel axis.
    """
    if node.op_type == "BatchNormalization":
        return 0
    axis = array.ndim - ndim + channels
    per_channel = node.op_type in CHANNELWISE.combining | MULTIPLICATIVE and 0 <= axis < array.ndim
    return axis if per_channel and array.shape[axis] > 1 else None


def changes_positions_only(context: PassContext, node: ir.Node) -> bool:
    """Whether a node adds, drops or blends positions only, and has no channel count as a parameter."""
    if node.op_type == "Pad":
        return pads_positions_only(context, node)
    if node.op_type != "Slice":
        by_factors = len(node.inputs) < SIZES_INPUT_COUNT
        return by_factors and node.attributes.get_float("extrapolation_value", 0.0) == 0
    given = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = given.tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    ndim = context.ndim(node.inputs[0])
    return bool(axes) and ndim is not None and all(axis % ndim > 1 for axis in axes)


def reduces_positions_only(node: ir.Node, ndim: int) -> bool:
    """Whether a reduction runs only over axes after the channel axis."""
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    return bool(axes) and all(axis % ndim > 1 for axis in axes)
