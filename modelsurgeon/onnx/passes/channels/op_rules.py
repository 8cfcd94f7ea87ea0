"""What operators do to channels: which scale with their input, and which work on each channel by itself."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import UNARY
from modelsurgeon.onnx.passes.pads import spares_channels

SIZES_INPUT = 4  # inputs of a Resize that names sizes

KEEPING = frozenset(
    {"Abs", "AveragePool", "Dropout", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Identity"}
    | {"LeakyRelu", "LpPool", "MaxPool", "Neg", "Relu"}
)
JOINING = frozenset({"Add", "Max", "Mean", "Min", "Sub", "Sum"})
SHIFTING = frozenset({"Add", "Sub"})
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
REDUCING = frozenset({"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
FACTORS = frozenset({"Div", "Mul", "PRelu"})
ELEMENTWISE = UNARY | JOINING | FACTORS | {"Abs", "Dropout", "Identity", "Pow"}
MOVING = frozenset({"Pad", "Resize", "Slice", "Upsample"})


@dataclass(frozen=True, kw_only=True)
class ChannelRules:
    """Which operators hand channels on. keeping: with one input. joining: with several of one shape.

    shifting: those of them that may take a constant. stretching: they may also spread a value over positions.
    norms: batch norms by stored statistics do, too. otherwise: what all others aren't known to do.
    """

    keeping: frozenset[str]
    joining: frozenset[str]
    shifting: frozenset[str]
    stretching: bool
    norms: bool
    otherwise: str


HOMOGENEOUS = ChannelRules(
    keeping=KEEPING,
    joining=JOINING,
    shifting=SHIFTING,
    stretching=False,
    norms=False,
    otherwise="isn't known to scale with its input",
)
EACH_BY_ITSELF = ChannelRules(
    keeping=KEEPING | UNARY,
    joining=JOINING | {"Div", "Mul", "Pow"},
    shifting=JOINING | {"Div", "Mul", "Pow"},
    stretching=True,
    norms=True,
    otherwise="isn't known to work on each channel by itself",
)


def channel_axis(node: ir.Node, array: Array, ndim: int, channels: int = 1) -> int | None:
    """The axis of a constant of a node that has a number per channel; None where one serves all.

    ndim, channels: of what the node gives, and the axis that its channels are on.
    """
    if node.op_type == "BatchNormalization":
        return 0
    axis = array.ndim - ndim + channels
    per_channel = node.op_type in EACH_BY_ITSELF.joining | FACTORS and 0 <= axis < array.ndim
    return axis if per_channel and array.shape[axis] > 1 else None


def moves_positions(subject: PassContext, node: ir.Node) -> bool:
    """Whether a node adds, drops or blends positions alone, by no sizes that hold a number of channels."""
    if node.op_type == "Pad":
        return spares_channels(subject, node)
    if node.op_type != "Slice":
        by_factors = len(node.inputs) < SIZES_INPUT
        return by_factors and node.attributes.get_float("extrapolation_value", 0.0) == 0
    given = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = given.tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    ndim = subject.ndim(node.inputs[0])
    return bool(axes) and ndim is not None and all(axis % ndim > 1 for axis in axes)


def reduces_positions(node: ir.Node, ndim: int) -> bool:
    """Whether a reduction runs over axes behind the channels alone."""
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    return bool(axes) and all(axis % ndim > 1 for axis in axes)
