"""Weights wherever they sit: initializers, Constant nodes, ConstantOfShape, and simple steps behind those.

Exporters put Identity, Transpose, Cast or Reshape between a weight and its layer; onnxruntime folds these
when it loads the model, and so do we when we read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array

Step = Callable[..., Array]


def stored_source(value: ir.Value | None) -> ir.Value | None:
    """The stored constant that `value` is made from by simple steps alone; None where it isn't constant.

    An initializer that is also a graph input is a default that a caller may override, so it is none. In IR
    version 3 every initializer had to be listed as an input; `sites.editable` lifts that first.
    """
    if value is None or _is_stored(value):
        return value
    node = _step(value)
    if node is not None and node.op_type == "ConstantOfShape":
        return value if constant_array(node.inputs[0]) is not None else None
    if node is None or any(constant_array(extra) is None for extra in node.inputs[1:] if extra is not None):
        return None
    return stored_source(node.inputs[0])


def constant_array(value: ir.Value | None) -> Array | None:
    """The numbers of a constant, in the dtype they are used in; None where `value` isn't constant.

    An initializer in external data is mapped, not read. The array is shared: never write to it.
    """
    if value is None:
        return None
    if _is_stored(value):
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()
    node = _step(value)
    return None if node is None else evaluate_step(node, constant_array, WEIGHT_STEPS)


def evaluate_step(
    node: ir.Node, numbers: Callable[[ir.Value], Array | None], steps: Mapping[str, Step]
) -> Array | None:
    """What a node makes of constants, by the step of its name; None where one of its inputs is none."""
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


def _step(value: ir.Value) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and not node.domain and node.op_type in WEIGHT_STEPS else None


def _of_shape(node: ir.Node, shape: Array) -> Array:
    given = node.attributes.get("value")
    fill = np.zeros((), np.float32) if given is None else given.as_tensor().numpy().reshape(())
    return np.broadcast_to(fill, tuple(int(n) for n in shape))


def _cast(node: ir.Node, array: Array) -> Array:
    return array.astype(ir.DataType(node.attributes["to"].as_int()).numpy())


def _transpose(node: ir.Node, array: Array) -> Array:
    return array.transpose(node.attributes["perm"].as_ints() if "perm" in node.attributes else None)


def _reshape(_: ir.Node, array: Array, shape: Array) -> Array:
    return array.reshape([array.shape[axis] if n == 0 else int(n) for axis, n in enumerate(shape)])


def _unsqueeze(node: ir.Node, array: Array, given: Array | None = None) -> Array:
    return np.expand_dims(array, _axes(node, given))


def _squeeze(node: ir.Node, array: Array, given: Array | None = None) -> Array:
    return np.squeeze(array, _axes(node, given) or None)


def _axes(node: ir.Node, given: Array | None) -> tuple[int, ...]:
    """Axes as an input (from opset 13 on) or as an attribute."""
    if given is not None:
        return tuple(int(axis) for axis in given)
    return tuple(node.attributes["axes"].as_ints()) if "axes" in node.attributes else ()


WEIGHT_STEPS: Mapping[str, Step] = {
    "Cast": _cast,
    "ConstantOfShape": _of_shape,
    "Identity": lambda _, array: array,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
