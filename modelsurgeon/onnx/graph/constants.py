"""Constants of a graph: initializers, Constant and ConstantOfShape nodes, and simple operators after those.

Exporters put Identity, Transpose, Cast or Reshape between a weight and its layer. onnxruntime folds these
when it loads the model; here they are folded when the weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array

Step = Callable[..., Array]

CAST_TYPES = frozenset(
    {ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BFLOAT16, ir.DataType.FLOAT16}
    | {ir.DataType.FLOAT, ir.DataType.DOUBLE}
)


def stored_source(value: ir.Value | None) -> ir.Value | None:
    """The stored constant from which WEIGHT_STEPS alone make `value`; None where it isn't constant.

    An initializer that is also a graph input is a default that a caller may override, so it isn't constant.
    In IR version 3 every initializer had to be listed as an input; `onnx.layers.sites.editable_copy` removes
    these inputs first.
    """
    if value is None or _is_stored(value):
        return value
    node = _weight_step(value)
    if node is not None and node.op_type == "ConstantOfShape":
        return value if constant_array(node.inputs[0]) is not None else None
    if node is None or any(constant_array(extra) is None for extra in node.inputs[1:] if extra is not None):
        return None
    return stored_source(node.inputs[0])


def constant_array(value: ir.Value | None) -> Array | None:
    """The array of a constant, in the dtype in which it is used; None where `value` isn't constant.

    An initializer in external data is mapped, not read. The array is shared: never write to it.
    """
    if value is None:
        return None
    if _is_stored(value):
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()
    node = _weight_step(value)
    return None if node is None else evaluate_step(node, constant_array, WEIGHT_STEPS)


def why_unreadable(value: ir.Value | None, what: str) -> str:
    """The reason why a value, which is the `what` of a layer, isn't constant."""
    inputs = [entry for entry in _sources(value) if entry.is_graph_input()]
    if not inputs:
        return f"its {what} is computed at run time"
    if all(entry.is_initializer() for entry in inputs):
        return f"its {what} is a graph input, which a caller may override: --freeze-inputs fixes it"
    return f"its {what} is a graph input without a default: --freeze-inputs fixes those that have one"


def _sources(value: ir.Value | None) -> Iterator[ir.Value]:
    """What WEIGHT_STEPS make the value of."""
    if value is None:
        return
    if (node := _weight_step(value)) is None:
        yield value
    else:
        for each in node.inputs:
            yield from _sources(each)


def evaluate_step(
    node: ir.Node, numbers: Callable[[ir.Value], Array | None], steps: Mapping[str, Step]
) -> Array | None:
    """The output of a node computed from constant inputs; None where an input isn't constant.

    numbers: the array of a constant value, or None. steps: functions that compute an operator, by its type.
    """
    inputs = [None if value is None else numbers(value) for value in node.inputs]
    missing = any(
        array is None for array, value in zip(inputs, node.inputs, strict=True) if value is not None
    )
    if node.domain or node.op_type not in steps or not inputs or missing:
        return None
    return steps[node.op_type](node, *(array for array in inputs if array is not None))


def _is_stored(value: ir.Value) -> bool:
    node = value.producer()
    if node is not None:
        return not node.domain and node.op_type == "Constant"
    return value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def _weight_step(value: ir.Value) -> ir.Node | None:
    node = value.producer()
    if node is None or node.domain or any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    if node.op_type == "Cast" and not _casts_numbers(node):
        return None
    return node if node.op_type in WEIGHT_STEPS else None


def _constant_of_shape(node: ir.Node, shape: Array) -> Array:
    value = node.attributes.get("value")
    fill = np.zeros((), np.float32) if value is None else value.as_tensor().numpy().reshape(())
    return np.broadcast_to(fill, tuple(int(n) for n in shape))


def _cast(node: ir.Node, array: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(ir.DataType(node.attributes["to"].as_int()).numpy())


def _casts_numbers(node: ir.Node) -> bool:
    """Whether numpy casts as ONNX does: from numbers, and to none of 8 bits."""
    to, given = node.attributes["to"], node.inputs[0]
    known = to.type == ir.AttributeType.INT and to.as_int() in CAST_TYPES
    return known and given is not None and given.dtype != ir.DataType.STRING


def _transpose(node: ir.Node, array: Array) -> Array:
    return array.transpose(node.attributes["perm"].as_ints() if "perm" in node.attributes else None)


def _reshape(node: ir.Node, array: Array, shape: Array | None = None) -> Array:
    """The array in a shape given as an input or, up to opset 4, as an attribute."""
    sizes = node.attributes["shape"].as_ints() if shape is None else shape.tolist()
    copies = not node.attributes.get_int("allowzero", 0)
    return array.reshape([array.shape[axis] if n == 0 and copies else n for axis, n in enumerate(sizes)])


def _unsqueeze(node: ir.Node, array: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(array, _axes(node, axes))


def _squeeze(node: ir.Node, array: Array, axes: Array | None = None) -> Array:
    return np.squeeze(array, _axes(node, axes) or None)


def _axes(node: ir.Node, axes: Array | None) -> tuple[int, ...]:
    """Axes given as an input (from opset 13 on) or as an attribute."""
    if axes is not None:
        return tuple(int(axis) for axis in axes)
    return tuple(node.attributes["axes"].as_ints()) if "axes" in node.attributes else ()


WEIGHT_STEPS: Mapping[str, Step] = {
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda _, array: array,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
