"""Parts of shape rules: inputs, integers of attributes, the shape of an operand."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import OpUsageError, ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant

MIN_OPEN_END = 10**8  # a slice that ends here or later ends with the axis
BOOLEAN_RESULTS = frozenset({"And", "Or", "Xor", "Equal", "Greater", "Less"})


def integers(node: ir.Node, name: str) -> list[int]:
    """An attribute that is a list of integers; empty where it is left out."""
    attr = node.attributes.get(name)
    return list(attr.as_ints()) if attr is not None else []


def same_as_first(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The output has the shape and, unless it is a truth value, the type of the first input."""
    first = node.inputs[0] if node.inputs else None
    if first is not None:
        dtype = ir.DataType.BOOL if node.op_type in BOOLEAN_RESULTS else first.dtype
        ctx.set_shape_and_dtype(node.outputs[0], first.shape, dtype)


def known_inputs(node: ir.Node, number: int) -> tuple[ir.Value, ...]:
    """The first inputs of a node; raises OpUsageError where one is left out."""
    inputs = node.inputs[:number]
    if len(inputs) < number or None in inputs:
        raise OpUsageError(node, f"{node.op_type} needs its first {number} inputs")
    return tuple(value for value in inputs if value is not None)


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def input_shape(node: ir.Node, index: int) -> ir.Shape | None:
    """The shape of an input of a node; None where the input is left out or its shape isn't known."""
    value = optional_input(node, index)
    return None if value is None else value.shape


def contents(ctx: ShapeInferenceContext, value: ir.Value | None) -> list[int | ir.SymbolicDim] | None:
    """The integers in a value, as far as inference knows them; None where it doesn't."""
    known: list[int | ir.SymbolicDim] | None = None if value is None else ctx.get_symbolic_value(value)
    return known


def scalar_content(ctx: ShapeInferenceContext, value: ir.Value | None) -> int | ir.SymbolicDim | None:
    """The first integer in a value; None where inference doesn't know it."""
    known = contents(ctx, value)
    return known[0] if known else None


def known_sizes(ctx: ShapeInferenceContext, value: ir.Value | None) -> list[int | ir.SymbolicDim] | None:
    """The integers in a small tensor of any shape, or the open sizes that they are; None where unknown."""
    array = small_constant(value)
    if array is not None:
        return [int(entry) for entry in array.ravel()]
    found = contents(ctx, value)
    return None if found is None else list(found)


def known_size(ctx: ShapeInferenceContext, value: ir.Value | None) -> int | ir.SymbolicDim | None:
    """The only integer in a tensor, or the open size that it is; None where it isn't known."""
    found = known_sizes(ctx, value)
    return found[0] if found is not None and len(found) == 1 else None
