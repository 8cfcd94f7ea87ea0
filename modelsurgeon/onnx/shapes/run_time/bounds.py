"""Bounds of sizes that are known at run time only, and the sizes that are assumed for them."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import sympy

from modelsurgeon.onnx.graph.constant_folding import scalar_constant, taken_branch

Dim = int | ir.SymbolicDim

KEEPS_SIZES = frozenset({"Expand", "Tile", "Pad", "Resize", "Upsample", "CenterCropPad"})


def largest_size(node: ir.Node, axis: int) -> Dim | None:
    """The largest size that an axis of a node's output can have; None where none is known."""
    found = LARGEST.get(node.op_type)
    return None if found is None or node.domain else found(node, axis)


def usual_size(node: ir.Node, axis: int) -> Dim:
    """The size that is assumed for an axis of a node's output: its bound, or that of the input, or else 1."""
    most = largest_size(node, axis)
    if most is not None:
        return most
    data, result = _shape(node, 0), node.outputs[0].shape
    if data is None or result is None or node.op_type not in (*KEEPS_SIZES, "Reshape"):
        return 1
    back = len(result) - axis
    if node.op_type == "Reshape" and len(data) != len(result) and back > 1:
        return 1
    return data[-back] if back <= len(data) else 1


def _shape(node: ir.Node, index: int) -> ir.Shape | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else value.shape


def smallest_of(*sizes: Dim | None) -> Dim | None:
    """The smallest of the sizes that are known; None where none is."""
    found = [size for size in dict.fromkeys(sizes) if size is not None and _is_named(size)]
    if not found:
        return None
    numbers = [size if isinstance(size, int) else size._expr for size in found]
    return ir.SymbolicDim(sympy.Min(*numbers)).evaluate({}) if len(found) > 1 else found[0]


def _is_named(size: Dim) -> bool:
    return isinstance(size, int) or size.value is not None


def _elements(shape: ir.Shape | None) -> Dim | None:
    """Number of elements."""
    if shape is None or not all(map(_is_named, shape)):
        return None
    total: Dim = 1
    for size in shape:
        total = total * size
    return total


def _of_axis(node: ir.Node, axis: int) -> Dim | None:
    data = _shape(node, 0)
    return data[axis] if data is not None and axis < len(data) else None


def _of_selection(node: ir.Node, axis: int) -> Dim | None:
    """Of Compress and Unique: the size of their axis, or all elements where they have none."""
    if node.attributes.get("axis") is not None and len(node.outputs[0].shape or ()) > 1:
        most = _of_axis(node, axis)
    elif (named := node.attributes.get_int("axis", None)) is not None and (data := _shape(node, 0)):
        most = data[named]
    else:
        most = _elements(_shape(node, 0))
    condition = _shape(node, 1) if node.op_type == "Compress" else None
    return smallest_of(most, condition[0] if condition else None)


def _of_boxes(node: ir.Node, _: int) -> Dim | None:
    """Of NonMaxSuppression: batches x classes x the most boxes of a class."""
    boxes, scores = _shape(node, 0), _shape(node, 1)
    if scores is None or len(scores) != 3:
        return None
    limit = scalar_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    count = boxes[1] if boxes is not None and len(boxes) == 3 else scores[2]
    each = smallest_of(None if limit is None else int(limit), count)
    return None if each is None else _elements(ir.Shape([scores[0], scores[1], each]))


def _of_branches(node: ir.Node, axis: int) -> Dim | None:
    """Of an If: the larger size of its two branches."""
    if taken_branch(node) is not None:
        return None
    graphs = [node.attributes.get_graph(name, None) for name in ("then_branch", "else_branch")]
    shapes = [graph.outputs[0].shape for graph in graphs if graph is not None and len(graph.outputs) == 1]
    dims = [shape[axis] for shape in shapes if shape is not None and axis < len(shape)]
    if len(dims) < len(graphs) or not all(map(_is_named, dims)):
        return None
    numbers = [dim if isinstance(dim, int) else dim._expr for dim in dims]
    return ir.SymbolicDim(sympy.Max(*numbers)).evaluate({})


LARGEST: dict[str, Callable[[ir.Node, int], Dim | None]] = {
    "NonZero": lambda node, _: _elements(_shape(node, 0)),
    "NonMaxSuppression": _of_boxes,
    "Compress": _of_selection,
    "Unique": _of_selection,
    "Slice": _of_axis,
    "Split": _of_axis,
    "TopK": _of_axis,
    "If": _of_branches,
}
