"""What an ONNX model is made of and what it costs, told from its structure: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.analysis import Analysis
from modelsurgeon.onnx.bottlenecks import bottlenecks
from modelsurgeon.onnx.formulas import formulas
from modelsurgeon.onnx.frame import frame
from modelsurgeon.onnx.memory import Memory
from modelsurgeon.onnx.names import layer_names
from modelsurgeon.onnx.rows import Held, rows, totals, uncounted
from modelsurgeon.onnx.shapes import UNKNOWN, Dims, bound, default_dims, sizes
from modelsurgeon.onnx.visits import Visit, Walk


def analyze(
    model: ir.Model, *, shapes: Mapping[str, Sequence[int]] | None = None, dims: Dims | None = None
) -> Analysis:
    """Every node's cost, params and memory, their sums, and what stands out.

    shapes: input name -> sizes. dims: symbol -> size. Dimensions that stay open get stated defaults, and the
    totals formulas beside them. Raises UnknownShape for bindings that don't fit the model.
    """
    opened = bound(model, shapes, dims)
    defaults = default_dims(opened)
    whole = bound(model, shapes, {**(dims or {}), **defaults}) if defaults else opened
    walk = Walk(names=layer_names(whole), shape_of=sizes, functions=whole.functions)
    visits = walk.visits(whole.graph)
    held = Held.of(whole)
    layers, sums = rows(walk, visits, held), totals(visits, held)
    return Analysis(
        model=frame(model, opened),
        totals=sums,
        layers=layers,
        uncounted=uncounted(visits),
        bottlenecks=bottlenecks(whole.graph, visits, layers),
        formulas=formulas(opened, whole, walk, sums, defaults) if defaults else {},
        defaults=defaults,
        notes=[*walk.notes, *_unknown_memory(held.memory), *_misfit(visits, defaults)],
    )


def _unknown_memory(found: Memory) -> list[str]:
    if not found.unknown:
        return []
    first = ", ".join(found.unknown[:3])
    return [f"activations leave out {len(found.unknown)} values of unknown size ({first})"]


def _misfit(visits: Sequence[Visit], defaults: Dims) -> list[str]:
    """Whether a default size is one that the model can't have been made for."""
    failed = [visit.node.meta[UNKNOWN] for visit in visits if visit.runs and UNKNOWN in visit.node.meta]
    if not failed or not defaults:
        return []
    return [f"the default sizes don't fit this model ({failed[0]}): bind {', '.join(defaults)}"]
