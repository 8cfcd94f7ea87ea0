"""What an ONNX model is made of and what it costs, told from its structure: no weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from modelsurgeon.analysis import Analysis, LayerRow, Totals, Uncounted
from modelsurgeon.cost import Cost
from modelsurgeon.onnx import costs
from modelsurgeon.onnx.bottlenecks import bottlenecks
from modelsurgeon.onnx.flow import constant_values
from modelsurgeon.onnx.formulas import formulas
from modelsurgeon.onnx.memory import Memory, memory
from modelsurgeon.onnx.names import layer_names, module_path
from modelsurgeon.onnx.params import Param, nbytes, params
from modelsurgeon.onnx.shapes import UNKNOWN, Dims, bound, data_inputs, default_dims, sizes, symbols
from modelsurgeon.onnx.visits import Visit, Walk

__all__ = ["Analysis", "LayerRow", "Totals", "analyze"]


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
    held = _Held.of(whole)
    rows = _rows(walk, visits, held)
    totals = _totals(visits, held)
    return Analysis(
        model=_frame(model, opened),
        totals=totals,
        layers=rows,
        uncounted=_uncounted(visits),
        bottlenecks=bottlenecks(whole.graph, visits, rows),
        formulas=formulas(opened, whole, walk, totals, defaults) if defaults else {},
        defaults=defaults,
        notes=[*walk.notes, *_unknown_memory(held.memory), *_misfit(visits, defaults)],
    )


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What a bound model holds: constants, params, activations."""

    fixed: set[ir.Value]
    params: list[Param]
    memory: Memory

    @classmethod
    def of(cls, model: ir.Model) -> _Held:
        fixed = constant_values(model)
        return cls(fixed=fixed, params=params(model, fixed), memory=memory(model, fixed, bytes_of))


def bytes_of(value: ir.Value) -> int | None:
    """Bytes of a value whose shape is bound; None where they aren't known."""
    shape = None if isinstance(value.type, ir.SequenceType | ir.OptionalType) else sizes(value)
    return None if shape is None else nbytes(prod(shape), value.dtype)


def _totals(visits: Sequence[Visit], held: _Held) -> Totals:
    cost = sum((visit.total for visit in visits), Cost())
    return Totals(
        macs=cost.macs,
        flops=cost.flops,
        bias_adds=cost.bias_adds,
        params=sum(param.elements for param in held.params),
        param_bytes=sum(param.bytes for param in held.params),
        bn_stats=sum(param.elements for param in held.params if param.statistic),
        activation_bytes=held.memory.total,
        peak_activation_bytes=held.memory.peak,
        nodes=len(visits),
    )


def _rows(walk: Walk, visits: Sequence[Visit], held: _Held) -> list[LayerRow]:
    own: dict[ir.Node, list[Param]] = {}
    for param in held.params:
        own.setdefault(param.node, []).append(param)
    macs = sum(visit.total.macs for visit in visits) or 1
    elements = sum(param.elements for param in held.params) or 1
    return [_row(walk, visit, own.get(visit.node, []), held.fixed, macs, elements) for visit in visits]


def _row(
    walk: Walk, visit: Visit, own: Sequence[Param], fixed: set[ir.Value], macs: int, elements: int
) -> LayerRow:
    node, total = visit.node, visit.total
    known = isinstance(visit.cost, Cost)
    size = sum(param.elements for param in own)
    inputs, outputs = _present(node.inputs), _present(node.outputs)
    return LayerRow(
        name=walk.names[node],
        op=node.op_type,
        domain=node.domain,
        module=module_path(node),
        input_shapes=tuple(map(sizes, inputs)),
        output_shapes=tuple(map(sizes, outputs)),
        dtype=_dtype(outputs[0]) if outputs else None,
        macs=total.macs if known else None,
        flops=total.flops if known else None,
        bias_adds=total.bias_adds if known else None,
        params=size,
        param_bytes=sum(param.bytes for param in own),
        output_bytes=sum(bytes_of(value) or 0 for value in outputs if value not in fixed),
        mac_share=total.macs / macs if known else None,
        param_share=size / elements,
        intensity=_intensity(visit, [*inputs, *outputs]),
        runs=visit.runs,
    )


def _present(values: Sequence[ir.Value | None]) -> list[ir.Value]:
    """Optional inputs and outputs that are left out have no value, or one without a name."""
    return [value for value in values if value is not None and value.name]


def _intensity(visit: Visit, values: Sequence[ir.Value]) -> float | None:
    """FLOPs for each byte that one run reads and writes."""
    moved = [bytes_of(value) for value in values]
    if not isinstance(visit.cost, Cost) or None in moved or not any(moved):
        return None
    return float(visit.cost.flops / sum(size or 0 for size in moved))


def _dtype(value: ir.Value) -> str | None:
    """The name that numpy has for the type, such as float32."""
    if value.dtype is None:
        return None
    try:
        return str(value.dtype.numpy().name)
    except TypeError:
        return value.dtype.name.lower()


def _uncounted(visits: Sequence[Visit]) -> list[Uncounted]:
    found = Counter(
        (f"{visit.node.domain}::{visit.node.op_type}".removeprefix("::"), visit.cost.reason)
        for visit in visits
        if isinstance(visit.cost, costs.Uncounted) and bool(visit.runs)
    )
    return [Uncounted(op=op, count=count, reason=reason) for (op, reason), count in found.items()]


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


def _frame(model: ir.Model, opened: ir.Model) -> dict[str, Any]:
    """The contract's description of the model itself; open dimensions are named by their symbols."""
    given = set(symbols(opened))
    path = model.meta.get("modelsurgeon.path")
    return {
        "path": None if path is None else str(path),
        "format": "onnx",
        "opset": dict(model.opset_imports),
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "inputs": [_port(value, given) for value in data_inputs(opened)],
        "outputs": [_port(value, given) for value in opened.graph.outputs],
    }


def _port(value: ir.Value, given: set[str]) -> dict[str, Any]:
    def size(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int):
            return dim
        return str(dim) if dim.free_symbols() <= given else None

    shape = None if value.shape is None else [size(dim) for dim in value.shape]
    return {"name": value.name, "dtype": _dtype(value), "shape": shape}
