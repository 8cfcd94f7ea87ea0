"""Operator predicates: which flatten a map, change nothing, or work elementwise on any shape."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext

# Elementwise, one data input: the same on a vector and on a map.
UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu"}
    | {"HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu"}
    | {"Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"}
    | {"ThresholdedRelu"}
)
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"})
NORMALIZING = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
FULLY_CONNECTED = ("Gemm", "MatMul")
RESHAPE_BY_INPUT_OPSET = 5  # the opset from which on Reshape takes its target as an input


def opset(context: PassContext) -> int:
    """The version of the default ONNX operator set that the model imports; 1 where it names none."""
    return context.model.opset_imports.get("", 1)


def reshape_node(context: PassContext, x: ir.Value, target: Sequence[int]) -> ir.Node:
    """A new Reshape of a value to a constant shape."""
    if opset(context) < RESHAPE_BY_INPUT_OPSET:
        return ir.node("Reshape", [x], {"shape": list(target)})
    return ir.node("Reshape", [x, context.store("map.shape", np.array(target, np.int64))])


def dims(context: PassContext, value: ir.Value | None) -> list[int | None] | None:
    """Inferred sizes of a value, None for each open one; None where the number of axes isn't known."""
    shape = None if value is None else context.inferred(value).shape
    return None if shape is None else [_fixed_size(dim) for dim in shape]


def _fixed_size(dim: int | ir.SymbolicDim) -> int | None:
    """A size as a number, None where it is open; it may be an expression without symbols."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    size = dim.evaluate({}) if dim.value is not None and not dim.free_symbols() else None
    return size if isinstance(size, int) else None


def is_op(node: ir.Node | None, operators: Collection[str]) -> bool:
    """Whether the node is one of ONNX's own operators of these names; others may bear the same names."""
    return node is not None and not node.domain and node.op_type in operators


def keeps_type(context: PassContext, node: ir.Node) -> bool:
    """Whether the node is a Cast to the type that its input has already."""
    if not is_op(node, ("Cast",)) or node.inputs[0] is None:
        return False
    given = context.inferred(node.inputs[0]).dtype
    return given is not None and given == context.inferred(node.outputs[0]).dtype


def transpose_order(context: PassContext, node: ir.Node) -> list[int] | None:
    """The axes of its input in the order in which a Transpose puts them; None for others, or if unknown."""
    if not is_op(node, ("Transpose",)):
        return None
    ndim = context.ndim(node.inputs[0])
    given = node.attributes.get_ints("perm", ())
    return list(given) or (None if ndim is None else list(range(ndim))[::-1])


def is_flatten(context: PassContext, node: ir.Node) -> bool:
    """Whether the node flattens each sample's map to a vector: (N, C, ...) to (N, C * ...)."""
    if node.domain or node.op_type not in FLATTENING:
        return False
    before, after = dims(context, node.inputs[0]), dims(context, node.outputs[0])
    if before is None or after is None or len(before) < 3 or len(after) != 2 or None in before[1:]:
        return False
    return after[1] == prod(n for n in before[1:] if n is not None)


def is_identity(context: PassContext, node: ir.Node) -> bool:
    """Whether the node returns its input unchanged, in the same shape."""
    if node.domain or node.op_type not in {*FLATTENING, "Identity"}:
        return False
    before, after = dims(context, node.inputs[0]), dims(context, node.outputs[0])
    return before is not None and before == after and None not in before[1:]


def is_global_mean(context: PassContext, node: ir.Node) -> bool:
    """Whether the node takes the mean of every channel's whole map, with the channels on axis 1."""
    return (axes := mean_axes(context, node)) is not None and axes[0] == 2


def mean_axes(context: PassContext, node: ir.Node) -> list[int] | None:
    """The axes of which the node takes the mean, where these are all but the samples and the channels."""
    if node.domain or node.op_type not in ("GlobalAveragePool", "ReduceMean"):
        return None
    sizes = dims(context, node.inputs[0])
    if sizes is None or len(sizes) < 3:
        return None
    if node.op_type == "GlobalAveragePool":
        return list(range(2, len(sizes)))
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.reshape(-1).tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    found = sorted({axis % len(sizes) for axis in axes})
    fits = found in (list(range(2, len(sizes))), list(range(1, len(sizes) - 1)))
    return found if fits else None
