"""Nodes as rows, their sums, and what isn't in the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.inspection.rows import LayerRow, Totals, UncountedOperators
from modelsurgeon.onnx import costs
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.memory import BytesOf, Memory, bytes_of, memory
from modelsurgeon.onnx.analysis.node_runs import NodeRun, RunCounter
from modelsurgeon.onnx.analysis.params import Param, params
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.names import scope


@dataclass(frozen=True, kw_only=True)
class ModelContents:
    """What a bound model holds: constants, params, activations.

    bytes_of: of a value; None where unknown. Remembered: it holds while the model stays bound as it is.
    """

    fixed: set[ir.Value]
    params: list[Param]
    memory: Memory
    bytes_of: BytesOf

    @classmethod
    def of(cls, model: ir.Model) -> ModelContents:
        """Read off the structure; `model` is bound."""
        fixed, known = constant_values(model), cache(bytes_of)
        return cls(
            fixed=fixed, params=params(model, fixed), memory=memory(model, fixed, known), bytes_of=known
        )


def totals(visits: Sequence[NodeRun], held: ModelContents) -> Totals:
    """Sums over all nodes, params and activations."""
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


def rows(walk: RunCounter, visits: Sequence[NodeRun], held: ModelContents) -> list[LayerRow]:
    """One row for each visit, in the order of the visits; a param is told of the first node that uses it."""
    own: dict[ir.Node, list[Param]] = {}
    for param in held.params:
        own.setdefault(param.node, []).append(param)
    macs = sum(visit.total.macs for visit in visits) or 1
    elements = sum(param.elements for param in held.params) or 1
    return [_row(walk, visit, own.get(visit.node, ()), held, macs, elements) for visit in visits]


def _row(
    walk: RunCounter, visit: NodeRun, own: Sequence[Param], held: ModelContents, macs: int, elements: int
) -> LayerRow:
    node, total = visit.node, visit.total
    known = isinstance(visit.cost, Cost) or visit.runs == 0  # what doesn't run costs nothing, whatever it is
    size = sum([param.elements for param in own])
    inputs, outputs = _present(node.inputs), _present(node.outputs)
    return LayerRow(
        name=walk.names[node],
        op=node.op_type,
        domain=node.domain,
        module=scope(node),
        input_shapes=tuple(map(walk.shape_of, inputs)),
        output_shapes=tuple(map(walk.shape_of, outputs)),
        dtype=dtype_name(outputs[0]) if outputs else None,
        macs=total.macs if known else None,
        flops=total.flops if known else None,
        bias_adds=total.bias_adds if known else None,
        params=size,
        param_bytes=sum([param.bytes for param in own]),
        output_bytes=sum([held.bytes_of(value) or 0 for value in outputs if value not in held.fixed]),
        mac_share=total.macs / macs if known else None,
        param_share=size / elements,
        intensity=_intensity(visit, [held.bytes_of(value) for value in (*inputs, *outputs)]),
        runs=visit.runs,
    )


def _present(values: Sequence[ir.Value | None]) -> list[ir.Value]:
    """Optional inputs and outputs that are left out have no value, or one without a name."""
    return [value for value in values if value is not None and value.name]


def _intensity(visit: NodeRun, moved: Sequence[int | None]) -> float | None:
    """FLOPs for each byte that one run reads and writes. moved: bytes of all that is read and written."""
    known = [size for size in moved if size is not None]
    if not isinstance(visit.cost, Cost) or len(known) < len(moved) or not any(known):
        return None
    return float(visit.cost.flops / sum(known))


def with_formulas(rows: Sequence[LayerRow], formulas: Sequence[Mapping[str, str]]) -> Sequence[LayerRow]:
    """The rows, each with its formulas; as they are where there are none."""
    if not formulas:
        return rows
    pairs = zip(rows, formulas, strict=True)
    return [LayerRow(**{**vars(row), "formulas": told}) if told else row for row, told in pairs]


def uncounted(visits: Sequence[NodeRun]) -> list[UncountedOperators]:
    """Operators that run but have no cost, each with the reason and how often it occurs."""
    found = Counter(
        (f"{visit.node.domain}::{visit.node.op_type}".removeprefix("::"), visit.cost.reason)
        for visit in visits
        if isinstance(visit.cost, costs.Uncounted) and bool(visit.runs)
    )
    return [UncountedOperators(op=op, count=count, reason=reason) for (op, reason), count in found.items()]
