"""Nodes that work along the classes of a vector, and do the same at every position of a map of classes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext

# Operators with one attribute "axis", by its default.
DEFAULT_AXES = {"ArgMax": 0, "ArgMin": 0, "TopK": -1, "Concat": 1, "Split": 0, "LpNormalization": -1}
REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"}
    | {"ReduceProd", "ReduceSum", "ReduceSumSquare"}
)


def class_axis(node: ir.Node) -> int | None:
    """The one axis along which a node works; None where it is another kind of node, or has several."""
    if node.op_type in DEFAULT_AXES:
        return node.attributes.get_int("axis", DEFAULT_AXES[node.op_type])
    if node.op_type not in REDUCTIONS:
        return None
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant_array(node.inputs[1])
        axes = [] if array is None else array.reshape(-1).tolist()
    else:
        axes = list(node.attributes.get_ints("axes", ()))
    return int(axes[0]) if len(axes) == 1 else None


def set_class_axis(context: PassContext, node: ir.Node) -> None:
    """Make a node work along axis 1, the classes of a map."""
    if node.op_type in DEFAULT_AXES:
        node.attributes["axis"] = ir.AttrInt64("axis", 1)
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        node.replace_input_with(1, context.store(f"{node.inputs[1].name}.classes", np.array([1], np.int64)))
    else:
        node.attributes["axes"] = ir.AttrInt64s("axes", [1])
