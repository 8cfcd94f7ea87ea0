"""Small constants: the ones a file holds, and those that shapes and branches wait for, computed ahead.

Exporters spell a padding as a chain of Reshape, Slice and Transpose over constants. Shape inference follows
integer vectors only, so such chains are computed here, node by node, with the reference implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.onnx.graph.traversal import nodes

Array = NDArray[np.generic]

MAX_FOLDED_ELEMENTS = 1024  # elements; what is larger is data, no shape

ARITHMETIC = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Div", "Equal", "Flatten"),
        *("Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less"),
        *("LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "ReduceMax"),
        *("ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterElements", "ScatterND", "Sign"),
        *("Slice", "Split", "Sqrt", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where", "Xor"),
    )
)
# These can make much out of little: only where inference has told that the result is small.
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


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant tensor of an initializer, a Constant or a value that has been computed ahead."""
    if value is None:
        return None
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant without exactly one attribute
        return None


def small_constant(value: ir.Value | None) -> Array | None:
    """The content of a small constant; None if the value is none or is large. Large weights aren't read."""
    tensor = tensor_of(value)
    if tensor is None or tensor.size > MAX_FOLDED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return None
    return np.asarray(tensor.numpy())


def scalar_constant(value: ir.Value | None) -> int | float | bool | None:
    """The one element of a small constant, or None."""
    array = small_constant(value)
    return array.item() if array is not None and array.size == 1 else None


def branch(node: ir.Node) -> ir.Graph | None:
    """The branch that an If takes, where its condition is constant."""
    taken = scalar_constant(node.inputs[0]) if node.inputs else None
    name = "then_branch" if taken else "else_branch"
    return None if taken is None else node.attributes.get_graph(name, None)


def fold_constants(model: ir.Model, unknown: Iterable[ir.Value]) -> bool:
    """Compute ahead what the shapes of `unknown` values, and every If and Loop, depend on.

    Results become `const_value`s and, for the outputs of an If whose branch is known, shapes.
    Returns whether anything new came out.
    """
    found = nodes(model)
    cone = _ancestors(_asked(found, set(unknown)))
    todo = [node for node in found if node in cone or node.op_type == "If"]
    return sum(_compute(node, model.opset_imports) for node in todo) > 0


def _asked(found: Iterable[ir.Node], unknown: set[ir.Value]) -> Iterator[ir.Value | None]:
    for node in found:
        if not unknown.isdisjoint(node.outputs):
            yield from node.inputs
        if node.op_type in ("If", "Loop") and not node.domain:
            yield from node.inputs[:2]
        if node.op_type == "Loop" and (body := node.attributes.get_graph("body", None)) is not None:
            yield from body.outputs[:1]


def _ancestors(values: Iterable[ir.Value | None]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    open_values = list(values)
    while open_values:
        value = open_values.pop()
        node = value.producer() if value is not None else None
        if node is None or node in found or tensor_of(value) is not None:
            continue
        found.add(node)
        open_values.extend(node.inputs)
        if node.op_type == "If" and (taken := branch(node)) is not None:
            open_values.extend(taken.outputs)
    return found


def _compute(node: ir.Node, opsets: dict[str, int]) -> bool:
    """Give the outputs of one node their constants; whether that was possible, and new."""
    if node.domain:
        return False
    if node.op_type == "If":
        return _pass_on(node)
    if all(output.const_value is not None for output in node.outputs):
        return False
    results = _shape_of(node) if node.op_type in ("Shape", "Size") else _run(node, opsets)
    for output, array in zip(node.outputs, results, strict=False):
        if isinstance(array, np.ndarray) and array.size <= MAX_FOLDED_ELEMENTS:
            output.const_value = tensor = ir.tensor(array, name=output.name)
            output.shape, output.type = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    return any(output.const_value is not None for output in node.outputs)


def _pass_on(node: ir.Node) -> bool:
    """An If whose branch is known has that branch's results."""
    taken, new = branch(node), False
    for output, result in zip(node.outputs, taken.outputs if taken is not None else (), strict=False):
        tensor = tensor_of(result)
        if tensor is not None and output.const_value is None:
            output.const_value, new = tensor, True
        if result.shape is not None and result.shape != output.shape:
            output.shape, output.type, new = result.shape, result.type, True
    return new


def _shape_of(node: ir.Node) -> list[Array]:
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


def _run(node: ir.Node, opsets: dict[str, int]) -> list[Array]:
    if node.op_type not in ARITHMETIC and not (node.op_type in GROWING_OPERATORS and _result_is_small(node)):
        return []
    given = [value for value in node.inputs if value is not None]
    feed = {str(value.name): small_constant(value) for value in given}
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
