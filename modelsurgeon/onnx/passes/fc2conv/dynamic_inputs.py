"""Opening the spatial sizes of inputs, where nothing in the graph depends on the ones that were fixed.

Which axes of which inputs are spatial follows from symbols: every axis gets one of its own, shapes are
inferred, and the symbols in the spatial axes of a map are those to open. Then the graph is asked whether it
would stand another size, by inference at twice the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.operators import weight_place
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit

Axis = tuple[str, int]  # of an input, by its name
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "PRelu", "Pow", "Where"})
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def open_inputs(subject: PassContext, maps: Sequence[ir.Value]) -> list[Edit]:
    """Open the axes of the inputs that the spatial sizes of these maps come from; an edit an input."""
    if not maps:
        return []
    RemoveUnusedNodesPass()(subject.model)
    by_input: dict[str, list[int]] = {}
    for name, axis in _spatial(subject.model, maps):
        by_input.setdefault(name, []).append(axis)
    edits = [] if by_input else [_unopened(value) for value in dict.fromkeys(maps)]
    for value in data_inputs(subject.model):
        axes = sorted(by_input.get(str(value.name), []))
        if axes and value.shape is not None and any(isinstance(value.shape[a], int) for a in axes):
            edits.append(_opened(subject, value, value.shape, axes))
    if any(edit.skipped is None for edit in edits):
        forget_shapes(subject.model)
    return edits


def _unopened(value: ir.Value) -> Edit:
    reason = "the size of this map doesn't follow from that of an input: sizes are written in on the way"
    return Edit(layer=str(value.name), action="open sizes", skipped=reason)


def _spatial(model: ir.Model, maps: Sequence[ir.Value]) -> list[Axis]:
    """Axes of inputs whose sizes appear in the spatial axes of the maps, and in no other axis of them."""
    probe = model.clone()
    symbols: dict[str, Axis] = {}
    for number, value in enumerate(data_inputs(probe)):
        if value.shape is not None:
            made = {f"axis_{number}_{a}": (str(value.name), a) for a in range(value.shape.rank())}
            value.shape = ir.Shape([ir.SymbolicDim(symbol) for symbol in made])
            symbols |= made
    known = _inferred(probe)
    found: set[str] = set()
    for value in maps:
        shape = known.get(value.name)
        if shape is not None and shape.rank() > 2:
            others = ir.Shape(shape[:2]).free_symbols()
            found |= (ir.Shape(shape[2:]).free_symbols() - others) & set(symbols)
    return sorted(symbols[symbol] for symbol in found)


def _inferred(model: ir.Model) -> dict[str | None, ir.Shape | None]:
    try:
        measured = shapes.bound(model)
    except (BadModel, UnknownShape):
        return {}
    return {value.name: value.shape for node in measured.graph for value in node.outputs} | {
        value.name: value.shape for value in measured.graph.inputs
    }


def _opened(subject: PassContext, value: ir.Value, before: ir.Shape, axes: Sequence[int]) -> Edit:
    name, dims = str(value.name), list(before)
    larger = [n * 2 if a in axes and isinstance(n, int) else n for a, n in enumerate(before)]
    if (reason := _bound_to_size(subject.model, name, larger)) is not None:
        return Edit(layer=name, action="open sizes", skipped=reason)
    wishes = AXIS_NAMES.get(len(axes), [f"axis_{axis}" for axis in axes])
    taken = {
        str(dim) for each in subject.graph.inputs for dim in each.shape or () if not isinstance(dim, int)
    }
    for axis, wish in zip(axes, wishes, strict=True):
        dims[axis] = ir.SymbolicDim(wish if wish not in taken else f"{name}_{wish}")
    value.shape = ir.Shape(dims)
    return Edit(
        layer=name,
        action="open sizes",
        details={"before": _shape_as_data(before), "after": _shape_as_data(value.shape)},
    )


def _shape_as_data(shape: ir.Shape) -> list[int | str]:
    return [dim if isinstance(dim, int) else str(dim) for dim in shape]


def _bound_to_size(model: ir.Model, name: str, larger: Sequence[int | ir.SymbolicDim]) -> str | None:
    """The first thing in the graph that would not stand these sizes, in words; None where all would."""
    probe = model.clone()
    for value in probe.graph.inputs:
        if value.name == name:
            value.shape = ir.Shape(larger)
    now, then = _inferred(model), _inferred(probe)
    for node in model.graph:
        if (reason := _breaks(node, now, then)) is not None:
            return f"{node.op_type} {node.name or node.outputs[0].name!r} {reason}"
    return None


Known = dict[str | None, ir.Shape | None]


def _breaks(node: ir.Node, now: Known, then: Known) -> str | None:
    values = [value for value in node.inputs if value is not None]
    grown = [then.get(value.name) for value in values if now.get(value.name) != then.get(value.name)]
    if not grown or node.domain:
        return None
    size = grown[0]
    if node.op_type in ELEMENTWISE:
        held = [value.const_value.shape.numpy() for value in values if value.const_value is not None]
        if not all(_stretches(each, size) for each in held):
            return "holds a map of one size"
    if size is None or any(then.get(value.name) is None for value in node.outputs):
        return "has no known shape at another size"
    if (
        node.op_type in ("Gemm", "MatMul")
        and (weight := constant_array(node.inputs[weight_place(node)])) is not None
    ):
        rows = weight.shape[1 if node.attributes.get_int("transB", 0) else 0]
        return None if size[-1] == rows else "is a matrix for one size"
    return _reshape_breaks(node, now, then) if node.op_type == "Reshape" else None


def _reshape_breaks(node: ir.Node, now: Known, then: Known) -> str | None:
    """A target is right at another size if it holds as many elements, and no more samples than before."""
    before, after = then.get(node.inputs[0].name), then.get(node.outputs[0].name)  # type: ignore[union-attr]
    first = now.get(node.outputs[0].name)
    reason = "has sizes written into it"
    if before is None or after is None or first is None or not first.rank():
        return reason
    numbers = [[n for n in shape if isinstance(n, int)] for shape in (before, after)]
    open_dims = [{str(n) for n in shape if not isinstance(n, int)} for shape in (before, after)]
    same = prod(numbers[0]) == prod(numbers[1]) and open_dims[0] == open_dims[1]
    return None if same and after[0] == first[0] else reason


def _stretches(constant_sizes: Iterable[int], size: ir.Shape | None) -> bool:
    """Whether a constant of these sizes is broadcast to a value of this size."""
    pairs = zip(reversed(list(constant_sizes)), reversed(list(size or ())), strict=False)
    return all(n in (1, dim) or not isinstance(dim, int) for n, dim in pairs)


def forget_shapes(model: ir.Model) -> None:
    """Drop the shapes of computed values, made stale by a change; those of outputs are inferred anew."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    known = _inferred(model)
    given = {str(dim) for value in data_inputs(model) for dim in value.shape or ()}
    for value in model.graph.outputs:
        shape = known.get(value.name)
        if shape is not None:
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) or dim.value in given else None for dim in shape]
            )
