"""Bytes of activations: all of them together, and the most that live at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.cost import Number
from modelsurgeon.onnx.flow import needs
from modelsurgeon.onnx.params import nbytes
from modelsurgeon.onnx.shapes import data_inputs, sizes


@dataclass(frozen=True, kw_only=True)
class Memory:
    """total: bytes of the graph's inputs and of all that its nodes produce. peak: the most that live at once.

    unknown: values whose size isn't known; both sums leave them out.
    """

    total: Number
    peak: int
    unknown: list[str]


def bytes_of(value: ir.Value) -> int | None:
    """Bytes of a value whose shape is bound; None where they aren't known."""
    shape = None if isinstance(value.type, ir.SequenceType | ir.OptionalType) else sizes(value)
    return None if shape is None else nbytes(prod(shape), value.dtype)


def activations(graph: ir.Graph, fixed: set[ir.Value]) -> list[ir.Value]:
    """What the nodes of one graph produce at run time; constants, folded before it, are left out."""
    return [value for node in graph for value in node.outputs if value.name and value not in fixed]


def memory(model: ir.Model, fixed: set[ir.Value], bytes_of: Callable[[ir.Value], Number | None]) -> Memory:
    """Bytes of the main graph's activations, run in file order, with no two values in the same place.

    An input lives until its last use, an output to the end; a node's inputs and outputs live together.
    """
    inputs = data_inputs(model)
    values = [*inputs, *activations(model.graph, fixed)]
    known = {value: size for value in values if (size := bytes_of(value)) is not None}
    return Memory(
        total=sum(known.values()),
        peak=_peak(model.graph, inputs, {v: size for v, size in known.items() if isinstance(size, int)}),
        unknown=[str(value.name) for value in values if value not in known],
    )


def _peak(graph: ir.Graph, inputs: list[ir.Value], size: dict[ir.Value, int]) -> int:
    nodes = list(graph)
    last = {value: step for step, node in enumerate(nodes) for value in needs(node)}
    last.update(dict.fromkeys(graph.outputs, len(nodes)))
    live = sum(size.get(value, 0) for value in inputs if value in last)
    peak = live
    for step, node in enumerate(nodes):
        born = [value for value in node.outputs if value in size]
        live += sum(size[value] for value in born)
        peak = max(peak, live)
        done = {value for value in (*needs(node), *born) if last.get(value, step) == step}
        live -= sum(size.get(value, 0) for value in done)
    return peak
