"""Why a model can't run at sizes that the user gave, and which sizes may have been meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, orders_of_axes
from modelsurgeon.onnx.shapes.impossible import impossible, impossible_positions
from modelsurgeon.onnx.shapes.inference import unknown
from modelsurgeon.onnx.shapes.pinned import pinned

Bind = Callable[..., ir.Model]


@dataclass(frozen=True, kw_only=True)
class GivenSizes:
    """Sizes that the user gave by input and by symbol, and the shapes that the model declares."""

    shapes: Mapping[str, Sequence[int]]
    dims: Dims
    declared: Mapping[str, ir.Shape | None]

    @property
    def text(self) -> str:
        """All of them in one line."""
        shapes = [f"{name} = {list(shape)}" for name, shape in self.shapes.items()]
        return ", ".join([*shapes, *(f"{name} = {size}" for name, size in self.dims.items())])


def refusal(found: ir.Model, given: GivenSizes, bind: Bind) -> str | None:
    """One line on the first node that can't run at the given sizes, but could at others; None without one.

    found: the model bound to these sizes. bind: binds a model to other shapes and dims.
    """
    free = bind(_as_declared(found, given), spend=True)
    always = impossible_positions(free)
    new = sorted(impossible_positions(found) - always)
    if not new:
        return None
    node = nodes(found)[new[0]]
    where = f"{layer_names(found)[node]!r} ({node.op_type}) can't run with {given.text}"
    hint = _other_order(found, given, bind, always) or _deduced(free, given)
    return "; ".join([f"{where}: {impossible(found)[node]}", *([hint] if hint else [])])


def _as_declared(found: ir.Model, given: GivenSizes) -> ir.Model:
    """A clone of a bound model whose inputs have the shapes of the file."""
    clone = found.clone()
    for value in clone.graph.inputs:
        value.shape = given.declared.get(str(value.name))
    return clone


def _other_order(found: ir.Model, given: GivenSizes, bind: Bind, always: set[int]) -> str | None:
    """A hint at another order of the axes of one input, or of all, at which every node can run."""
    failures = len(unknown(found))
    alone = [(name,) for name in given.shapes]
    for names in [*alone, tuple(given.shapes)] if len(alone) > 1 else alone:
        for order, question in orders_of_axes(len(given.shapes[names[0]])):
            others = _in_order(given, names, order)
            if all(others[name] == list(given.shapes[name]) for name in names):
                continue
            try:
                tried = bind(_as_declared(found, given), {**given.shapes, **others}, given.dims, spend=True)
            except UnknownShape:
                continue
            if impossible_positions(tried) <= always and len(unknown(tried)) < failures:
                fitting = " and ".join(map(str, others.values()))
                return f"{question}{fitting} {'fits' if len(names) == 1 else 'fit'}"
    return None


def _in_order(given: GivenSizes, names: Sequence[str], order: Sequence[int]) -> dict[str, list[int]]:
    """The given sizes of inputs, in another order; as they are where an input has another number of axes."""
    return {
        name: [shape[axis] for axis in order] if len(shape) == len(order) else list(shape)
        for name, shape in given.shapes.items()
        if name in names
    }


def _deduced(free: ir.Model, given: GivenSizes) -> str | None:
    """A hint at the sizes that the model leaves no choice for."""
    for size in pinned(free):
        if given.dims.get(size.symbol, size.size) != size.size:
            return f"{size.symbol} has to be {size.size}"
    for value in data_inputs(free):
        shape, fixed = given.shapes.get(str(value.name)), value.shape
        if shape is None or fixed is None or len(shape) != len(fixed):
            continue
        if any(isinstance(size, int) and size != other for size, other in zip(fixed, shape, strict=True)):
            return f"input {value.name!r} takes [{', '.join(map(str, fixed))}]"
    return None
