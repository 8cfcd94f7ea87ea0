"""Make the spatial sizes of inputs dynamic, where nothing in the graph depends on the fixed ones.

The spatial axes of the inputs are found by symbols: every axis gets one of its own, shapes are inferred, and
the symbols in the spatial axes of a map name the axes to open. Inference at twice the size then shows whether
the graph works at other sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.layers.operators import weight_input_index
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit

Axis = tuple[str, int]  # the name of an input, the index of its axis
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "PRelu", "Pow", "Where"})
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def open_inputs(context: PassContext, maps: Sequence[ir.Value]) -> list[Edit]:
    """Make the input axes dynamic that the spatial sizes of these maps depend on; an edit for each input."""
    if not maps:
        return []
    RemoveUnusedNodesPass()(context.model)
    by_input: dict[str, list[int]] = {}
    for name, axis in _spatial_axes(context.model, maps):
        by_input.setdefault(name, []).append(axis)
    edits = [] if by_input else [_skipped_edit(value) for value in dict.fromkeys(maps)]
    for value in data_inputs(context.model):
        axes = sorted(by_input.get(str(value.name), []))
        if axes and value.shape is not None and any(isinstance(value.shape[a], int) for a in axes):
            edits.append(_open_axes(context, value, value.shape, axes))
    if any(edit.skipped is None for edit in edits):
        forget_shapes(context.model)
    return edits


def _skipped_edit(value: ir.Value) -> Edit:
    reason = "the size of this map doesn't depend on that of an input: nodes before it have fixed sizes"
    return Edit(layer=str(value.name), action="open sizes", skipped=reason)


def _spatial_axes(model: ir.Model, maps: Sequence[ir.Value]) -> list[Axis]:
    """Axes of inputs whose sizes appear in the spatial axes of the maps, and in none of their other axes."""
    probe = model.clone()
    symbols: dict[str, Axis] = {}
    for number, value in enumerate(data_inputs(probe)):
        if value.shape is not None:
            axes = {f"axis_{number}_{a}": (str(value.name), a) for a in range(value.shape.rank())}
            value.shape = ir.Shape([ir.SymbolicDim(symbol) for symbol in axes])
            symbols |= axes
    known = _inferred_shapes(probe)
    found: set[str] = set()
    for value in maps:
        shape = known.get(value.name)
        if shape is not None and shape.rank() > 2:
            others = ir.Shape(shape[:2]).free_symbols()
            found |= (ir.Shape(shape[2:]).free_symbols() - others) & set(symbols)
    return sorted(symbols[symbol] for symbol in found)


def _inferred_shapes(model: ir.Model) -> dict[str | None, ir.Shape | None]:
    try:
        measured = shapes.bound(model)
    except (BadModel, UnknownShape):
        return {}
    return {value.name: value.shape for node in measured.graph for value in node.outputs} | {
        value.name: value.shape for value in measured.graph.inputs
    }


def _open_axes(context: PassContext, value: ir.Value, before: ir.Shape, axes: Sequence[int]) -> Edit:
    name, dims = str(value.name), list(before)
    larger = [n * 2 if a in axes and isinstance(n, int) else n for a, n in enumerate(before)]
    if (reason := _why_size_is_fixed(context.model, name, larger)) is not None:
        return Edit(layer=name, action="open sizes", skipped=reason)
    symbols = AXIS_NAMES.get(len(axes), [f"axis_{axis}" for axis in axes])
    taken = {
        str(dim) for entry in context.graph.inputs for dim in entry.shape or () if not isinstance(dim, int)
    }
    for axis, symbol in zip(axes, symbols, strict=True):
        dims[axis] = ir.SymbolicDim(free_name(symbol if symbol not in taken else f"{name}_{symbol}", taken))
    value.shape = ir.Shape(dims)
    return Edit(
        layer=name,
        action="open sizes",
        details={"before": _shape_as_data(before), "after": _shape_as_data(value.shape)},
    )


def _shape_as_data(shape: ir.Shape) -> list[int | str]:
    return [dim if isinstance(dim, int) else str(dim) for dim in shape]


def _why_size_is_fixed(model: ir.Model, name: str, larger: Sequence[int | ir.SymbolicDim]) -> str | None:
    """The first node that fails when an input has these sizes, with the reason; None where all nodes work."""
    probe = model.clone()
    for value in probe.graph.inputs:
        if value.name == name:
            value.shape = ir.Shape(larger)
    shapes_before, shapes_after = _inferred_shapes(model), _inferred_shapes(probe)
    for node in model.graph:
        if (reason := _why_node_fails(node, shapes_before, shapes_after)) is not None:
            return f"{node.op_type} {node.name or node.outputs[0].name!r} {reason}"
    return None


ShapesByName = dict[str | None, ir.Shape | None]


def _why_node_fails(node: ir.Node, shapes_before: ShapesByName, shapes_after: ShapesByName) -> str | None:
    values = [value for value in node.inputs if value is not None]
    grown = [
        shapes_after.get(value.name)
        for value in values
        if shapes_before.get(value.name) != shapes_after.get(value.name)
    ]
    if not grown or node.domain:
        return None
    size = grown[0]
    if node.op_type in ELEMENTWISE:
        constants = [value.const_value.shape.numpy() for value in values if value.const_value is not None]
        if not all(_broadcasts_to(sizes, size) for sizes in constants):
            return "has a constant of one size"
    if size is None or any(shapes_after.get(value.name) is None for value in node.outputs):
        return "has no known shape at another size"
    if (
        node.op_type in ("Gemm", "MatMul")
        and (weight := constant_array(node.inputs[weight_input_index(node)])) is not None
    ):
        rows = weight.shape[1 if node.attributes.get_int("transB", 0) else 0]
        return None if size[-1] == rows else "has a matrix for one size"
    return _why_reshape_fails(node, shapes_before, shapes_after) if node.op_type == "Reshape" else None


def _why_reshape_fails(node: ir.Node, shapes_before: ShapesByName, shapes_after: ShapesByName) -> str | None:
    """The reason why a Reshape fails: its target has another number of elements, or of samples."""
    before, after = shapes_after.get(node.inputs[0].name), shapes_after.get(node.outputs[0].name)  # type: ignore[union-attr]
    first = shapes_before.get(node.outputs[0].name)
    reason = "has fixed sizes in its target"
    if before is None or after is None or first is None or not first.rank():
        return reason
    numbers = [[n for n in shape if isinstance(n, int)] for shape in (before, after)]
    open_dims = [{str(n) for n in shape if not isinstance(n, int)} for shape in (before, after)]
    same = prod(numbers[0]) == prod(numbers[1]) and open_dims[0] == open_dims[1]
    return None if same and after[0] == first[0] else reason


def _broadcasts_to(constant_sizes: Iterable[int], size: ir.Shape | None) -> bool:
    """Whether a constant of these sizes broadcasts to a value of this shape."""
    pairs = zip(reversed(list(constant_sizes)), reversed(list(size or ())), strict=False)
    return all(n in (1, dim) or not isinstance(dim, int) for n, dim in pairs)


def forget_shapes(model: ir.Model) -> None:
    """Drop the shapes of computed values, outdated by an edit, and infer those of outputs again."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    known = _inferred_shapes(model)
    symbols = {str(dim) for value in data_inputs(model) for dim in value.shape or ()}
    for value in model.graph.outputs:
        shape = known.get(value.name)
        if shape is not None:
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) or dim.value in symbols else None for dim in shape]
            )
