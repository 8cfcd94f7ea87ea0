"""What `fc2conv` and its reverse know of operators: which ones flatten, and which ones don't mind."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext

# One number in, one number out: the same on a vector and on a map.
UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu"}
    | {"HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu"}
    | {"Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"}
    | {"ThresholdedRelu"}
)
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"})
NORMALISING = frozenset({"LogSoftmax", "Softmax"})
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
FULLY_CONNECTED = ("Gemm", "MatMul")
RESHAPE_BY_INPUT_OPSET = 5  # the opset from which on Reshape takes its target as an input


def opset(subject: PassContext) -> int:
    """The version of the standard operators that the model is written in."""
    return subject.model.opset_imports.get("", 1)


def reshaped(subject: PassContext, x: ir.Value, target: Sequence[int]) -> ir.Node:
    """A Reshape of a value to a target that is known now."""
    if opset(subject) < RESHAPE_BY_INPUT_OPSET:
        return ir.node("Reshape", [x], {"shape": list(target)})
    return ir.node("Reshape", [x, subject.store("map.shape", np.array(target, np.int64))])


def dims(subject: PassContext, value: ir.Value | None) -> list[int | None] | None:
    """Sizes of a value as inferred, None for open ones; None in all where not even their number is known."""
    shape = None if value is None else subject.inferred(value).shape
    return None if shape is None else [_fixed(dim) for dim in shape]


def _fixed(dim: int | ir.SymbolicDim) -> int | None:
    """A size as a number; inference may also give one as an expression without symbols."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    size = dim.evaluate({}) if dim.value is not None and not dim.free_symbols() else None
    return size if isinstance(size, int) else None


def is_flatten(subject: PassContext, node: ir.Node) -> bool:
    """Whether the node makes a vector of each sample's map: (N, C, ...) to (N, C * ...)."""
    if node.domain or node.op_type not in FLATTENING:
        return False
    before, after = dims(subject, node.inputs[0]), dims(subject, node.outputs[0])
    if before is None or after is None or len(before) < 3 or len(after) != 2 or None in before[1:]:
        return False
    return after[1] == prod(n for n in before[1:] if n is not None)


def is_identity(subject: PassContext, node: ir.Node) -> bool:
    """Whether the node gives what it takes, in the same shape."""
    if node.domain or node.op_type not in {*FLATTENING, "Identity"}:
        return False
    before, after = dims(subject, node.inputs[0]), dims(subject, node.outputs[0])
    return before is not None and before == after and None not in before[1:]


def is_global_mean(subject: PassContext, node: ir.Node) -> bool:
    """Whether the node takes the mean of every channel's whole map."""
    if node.domain or node.op_type != "ReduceMean":
        return not node.domain and node.op_type == "GlobalAveragePool"
    sizes = dims(subject, node.inputs[0])
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    return (
        sizes is not None and len(sizes) > 2 and {a % len(sizes) for a in axes} == set(range(2, len(sizes)))
    )
