"""The spatial axes of inputs: found, opened where every node still means the same at other sizes, or kept.

They are found by symbols: every axis of an input gets one of its own, shapes are inferred, and the symbols in
the spatial axes of a map name the axes to open. `positions` says whether the graph works with these open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.positions import why_meaning_changes
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit

ACTION = "open sizes"
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
InputAxes = Mapping[str, Sequence[int]]  # the name of an input -> the indices of its axes


@dataclass(frozen=True)
class SpatialAxes:
    """The name of a map, and its axes of positions."""

    value: str
    axes: tuple[int, ...]


def input_axes(model: ir.Model, maps: Iterable[SpatialAxes]) -> dict[SpatialAxes, InputAxes]:
    """For each map the axes of inputs whose sizes appear in its spatial axes and in no other axis of it."""
    probe = model.clone()
    symbols: dict[str, tuple[str, int]] = {}
    for number, value in enumerate(data_inputs(probe)):
        if value.shape is not None:
            axes = {f"axis_{number}_{a}": (str(value.name), a) for a in range(value.shape.rank())}
            value.shape = ir.Shape([ir.SymbolicDim(symbol) for symbol in axes])
            symbols |= axes
    known = _inferred_shapes(probe)
    found: dict[SpatialAxes, InputAxes] = {}
    for each in maps:
        shape = known.get(each.value)
        by_input: dict[str, list[int]] = {}
        if shape is not None:
            others = ir.Shape([dim for a, dim in enumerate(shape) if a not in each.axes]).free_symbols()
            inner = ir.Shape([shape[a] for a in each.axes]).free_symbols()
            for name, axis in sorted(symbols[symbol] for symbol in (inner - others) & set(symbols)):
                by_input.setdefault(name, []).append(axis)
        found[each] = by_input
    return found


def _inferred_shapes(model: ir.Model) -> dict[str | None, ir.Shape | None]:
    measured = _inferred(model)
    if measured is None:
        return {}
    return {value.name: value.shape for node in measured.graph for value in node.outputs} | {
        value.name: value.shape for value in measured.graph.inputs
    }


def _inferred(model: ir.Model) -> ir.Model | None:
    try:
        return shapes.bound(model)
    except (BadModel, UnknownShape):
        return None


def why_inputs_stay_fixed(model: ir.Model, wanted: InputAxes) -> dict[str, str]:
    """The inputs whose axes can't be open, with the reason; those named first are opened first."""
    RemoveUnusedNodesPass()(model)
    reasons: dict[str, str] = {}
    opened: dict[str, Sequence[int]] = {}
    for name, axes in wanted.items():
        reason = _why_meaning_changes(model, opened | {name: axes})
        if reason is None:
            opened[name] = axes
        else:
            reasons[name] = reason
    return reasons


def _why_meaning_changes(model: ir.Model, opened: InputAxes) -> str | None:
    probe = model.clone()
    symbols: set[str] = set()
    for value in data_inputs(probe):
        if value.shape is not None and (axes := opened.get(str(value.name))):
            made = {axis: f"open_{value.name}_{axis}" for axis in axes}
            symbols.update(made.values())
            dims = [ir.SymbolicDim(made[a]) if a in made else dim for a, dim in enumerate(value.shape)]
            value.shape = ir.Shape(dims)
    for node in probe.graph:
        for value in node.outputs:
            value.shape = None
    measured = _inferred(probe)
    if measured is None:
        return "no shapes can be inferred at another size"
    return why_meaning_changes(measured, frozenset(symbols))


def open_axes(context: PassContext, wanted: InputAxes) -> list[Edit]:
    """Make these axes of inputs dynamic; an edit for each input that had a fixed one."""
    edits = []
    for value in data_inputs(context.model):
        axes, before = wanted.get(str(value.name), ()), value.shape
        if before is not None and any(isinstance(before[a], int) for a in axes):
            edits.append(_open_axes(context, value, before, axes))
    return edits


def _open_axes(context: PassContext, value: ir.Value, before: ir.Shape, axes: Sequence[int]) -> Edit:
    name, dims = str(value.name), list(before)
    symbols = AXIS_NAMES.get(len(axes), [f"axis_{axis}" for axis in axes])
    taken = {
        str(dim) for entry in context.graph.inputs for dim in entry.shape or () if not isinstance(dim, int)
    }
    for axis, symbol in zip(axes, symbols, strict=True):
        if isinstance(dims[axis], int):
            dims[axis] = ir.SymbolicDim(
                free_name(symbol if symbol not in taken else f"{name}_{symbol}", taken)
            )
    value.shape = ir.Shape(dims)
    details = {"before": _shape_as_data(before), "after": _shape_as_data(value.shape)}
    return Edit(layer=name, action=ACTION, details=details)


def _shape_as_data(shape: ir.Shape) -> list[int | str]:
    return [dim if isinstance(dim, int) else str(dim) for dim in shape]


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
