"""Constant folding for shape inference: small constants that shapes and branches depend on are computed.

Exporters write a padding as a chain of Reshape, Slice and Transpose over constants. Shape inference follows
integer vectors only, so such chains are computed here, node by node, with the reference implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.onnx.graph.traversal import nodes

Array = NDArray[np.generic]

MAX_FOLDED_ELEMENTS = 1024  # larger ones are data, not shapes

FOLDABLE_OPERATORS = frozenset(
    (
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"),
        *("BitwiseXor", "Cast", "CastLike", "Ceil", "Clip", "Compress", "Concat", "CumSum", "Div", "Equal"),
        *("Exp", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual"),
        *("Identity", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "NonZero"),
        *("Not", "Or", "Pow", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "Reshape", "Round", "ScatterElements", "ScatterND", "Sign", "Slice", "Split", "Sqrt"),
        *("Squeeze", "Sub", "Sum", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Where", "Xor"),
    )
)
# Their outputs may be much larger than their inputs: folded only if inference found that the output is small.
GROWING_OPERATORS = frozenset({"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Tile"})
EVALUATION_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant tensor of an initializer, a Constant or a folded value; None if there is none."""
    if value is None:
        return None
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant without exactly one attribute
        return None


def small_constant(value: ir.Value | None) -> Array | None:
    """The array of a small constant; None if the value isn't constant, or is large and so not read."""
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > MAX_FOLDED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return None
    return np.asarray(tensor.numpy())


def scalar_constant(value: ir.Value | None) -> int | float | bool | None:
    """The one element of a small constant, or None."""
    array = small_constant(value)
    return array.item() if array is not None and array.size == 1 else None


def taken_branch(node: ir.Node) -> ir.Graph | None:
    """The branch that an If takes; None where its condition isn't constant."""
    condition = scalar_constant(node.inputs[0]) if node.inputs else None
    name = "then_branch" if condition else "else_branch"
    return None if condition is None else node.attributes.get_graph(name, None)


def fold_constants(model: ir.Model, unknown: Iterable[ir.Value]) -> bool:
    """Fold constants that the shapes of `unknown` values, and every If and Loop, depend on.

    Results become `const_value`s and, for the outputs of an If whose branch is known, shapes.
    Returns whether anything new was computed.
    """
    all_nodes = nodes(model)
    needed = _producing_nodes(_values_to_fold(all_nodes, set(unknown)))
    todo = [node for node in all_nodes if node in needed or node.op_type == "If"]
    return sum(_fold_node(node, model.opset_imports) for node in todo) > 0


def _values_to_fold(all_nodes: Iterable[ir.Node], unknown: set[ir.Value]) -> Iterator[ir.Value | None]:
    for node in all_nodes:
        if not unknown.isdisjoint(node.outputs):
            yield from node.inputs
        if node.op_type in ("If", "Loop") and not node.domain:
            yield from node.inputs[:2]
        if node.op_type == "Loop" and (body := node.attributes.get_graph("body", None)) is not None:
            yield from body.outputs[:1]


def _producing_nodes(values: Iterable[ir.Value | None]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        node = value.producer() if value is not None else None
        if node is None or node in found or constant_tensor(value) is not None:
            continue
        found.add(node)
        pending.extend(node.inputs)
        if node.op_type == "If" and (branch := taken_branch(node)) is not None:
            pending.extend(branch.outputs)
    return found


def _fold_node(node: ir.Node, opsets: dict[str, int]) -> bool:
    """Compute the outputs of one node as constants; return whether that was possible, and new."""
    if node.domain:
        return False
    if node.op_type == "If":
        return _fold_if(node)
    if all(output.const_value is not None for output in node.outputs):
        return False
    results = _fold_shape(node) if node.op_type in ("Shape", "Size") else _evaluate(node, opsets)
    for output, array in zip(node.outputs, results, strict=False):
        if isinstance(array, np.ndarray) and array.size <= MAX_FOLDED_ELEMENTS:
            output.const_value = tensor = ir.tensor(array, name=output.name)
            output.shape, output.type = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    return any(output.const_value is not None for output in node.outputs)


def _fold_if(node: ir.Node) -> bool:
    """Copy constants and shapes from the known branch of an If to its outputs; return whether any is new."""
    branch, new = taken_branch(node), False
    for output, result in zip(node.outputs, branch.outputs if branch is not None else (), strict=False):
        tensor = constant_tensor(result)
        if tensor is not None and output.const_value is None:
            output.const_value, new = tensor, True
        if result.shape is not None and result.shape != output.shape:
            output.shape, output.type, new = result.shape, result.type, True
    return new


def _fold_shape(node: ir.Node) -> list[Array]:
    data = node.inputs[0] if node.inputs else None
    shape = data.shape if data is not None else None
    if shape is None or not shape.is_static():
        return []
    dims = [int(dim) for dim in shape.numpy()]
    if node.op_type == "Size":
        return [np.asarray(np.prod(dims, dtype=np.int64))]
    return [
        np.asarray(dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)], np.int64)
    ]


def _evaluate(node: ir.Node, opsets: dict[str, int]) -> list[Array]:
    if node.op_type not in FOLDABLE_OPERATORS and not (
        node.op_type in GROWING_OPERATORS and _result_is_small(node)
    ):
        return []
    if node.version is not None:
        opsets = {**opsets, node.domain: node.version}
    inputs = [value for value in node.inputs if value is not None]
    feed = {str(value.name): small_constant(value) for value in inputs}
    if any(array is None for array in feed.values()):
        return []
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(ir.to_proto(node), opsets=dict(opsets)).run(None, feed)
    except EVALUATION_ERRORS:
        return []
    return list(results)


def _result_is_small(node: ir.Node) -> bool:
    shape = node.outputs[0].shape if node.outputs else None
    return shape is not None and shape.is_static() and int(np.prod(shape.numpy())) <= MAX_FOLDED_ELEMENTS
