"""Nodes as table rows, and their totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.inspection.rows import LayerRow, LeftOutConstants, Totals
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.memory import BytesOf, Memory, bytes_of, memory
from modelsurgeon.onnx.analysis.module_params import ModuleParams
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.params import Param, stored_floats
from modelsurgeon.onnx.analysis.run_counter import RunCounter
from modelsurgeon.onnx.analysis.settings.attributes import attribute_bytes
from modelsurgeon.onnx.costs import Shape
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.names import scope


@dataclass(frozen=True, kw_only=True)
class ModelContents:
    """Constants, params, settings and activation memory of a bound model.

    unused_params: elements and bytes of the parameters of an exported module that no node uses, by name.
    bytes_of: bytes of a value, None where unknown; cached, so valid only while the model isn't changed.
    """

    constants: set[ir.Value]
    params: list[Param]
    settings: list[tuple[Param, str]]
    untold: int
    attribute_bytes: dict[ir.Node, int]
    unused_params: Mapping[str, tuple[int, int]]
    memory: Memory
    bytes_of: BytesOf

    @classmethod
    def of(cls, model: ir.Model) -> ModelContents:
        """Contents of a bound model; no weight is read."""
        constants, known = constant_values(model), cache(bytes_of)
        stored = stored_floats(model, constants)
        return cls(
            constants=constants,
            params=stored.params,
            settings=stored.settings,
            untold=stored.untold,
            attribute_bytes=attribute_bytes(model),
            unused_params=ModuleParams.of(model).unused,
            memory=memory(model, constants, known),
            bytes_of=known,
        )

    @property
    def param_elements(self) -> int:
        """Elements of all params, with those of unused parameters."""
        unused = self.unused_params.values()
        return sum(param.elements for param in self.params) + sum(elements for elements, _ in unused)

    @property
    def param_bytes(self) -> int:
        """Bytes of all params, with those of unused parameters."""
        return sum(param.bytes for param in self.params) + sum(
            size for _, size in self.unused_params.values()
        )


def totals(node_runs: Sequence[NodeRun], contents: ModelContents) -> Totals:
    """Sums over all nodes, params and activations."""
    cost = sum((run.total for run in node_runs), Cost())
    return Totals(
        macs=cost.macs,
        flops=cost.flops,
        bias_adds=cost.bias_adds,
        params=contents.param_elements,
        param_bytes=contents.param_bytes,
        bn_stats=sum(param.elements for param in contents.params if param.statistic),
        constants=sum(param.elements for param, _ in contents.settings),
        constant_bytes=sum(param.bytes for param, _ in contents.settings),
        attribute_bytes=sum(contents.attribute_bytes.values()),
        activation_bytes=contents.memory.total,
        peak_activation_bytes=contents.memory.peak,
        nodes=len(node_runs),
    )


def left_out_constants(contents: ModelContents) -> list[LeftOutConstants]:
    """Settings by reason, in order of first use."""
    groups: dict[str, list[Param]] = {}
    for param, reason in contents.settings:
        groups.setdefault(reason, []).append(param)
    return [
        LeftOutConstants(
            reason=reason,
            names=tuple(str(param.value.name) for param in group),
            elements=sum(param.elements for param in group),
            bytes=sum(param.bytes for param in group),
        )
        for reason, group in groups.items()
    ]


def rows(counter: RunCounter, node_runs: Sequence[NodeRun], contents: ModelContents) -> list[LayerRow]:
    """One row for each node run, in the same order; a param belongs to the first node that uses it."""
    own: dict[ir.Node, list[Param]] = {}
    for param in contents.params:
        own.setdefault(param.node, []).append(param)
    macs = sum(run.total.macs for run in node_runs) or 1
    elements = contents.param_elements or 1
    return [_row(counter, run, own.get(run.node, ()), contents, macs, elements) for run in node_runs]


def _row(
    counter: RunCounter, run: NodeRun, own: Sequence[Param], contents: ModelContents, macs: int, elements: int
) -> LayerRow:
    node, total = run.node, run.total
    known = isinstance(run.cost, Cost) or run.times == 0  # a node that doesn't run costs nothing
    size = sum([param.elements for param in own])
    inputs, outputs = _present(node.inputs), _present(node.outputs)
    return LayerRow(
        name=counter.names[node],
        op=node.op_type,
        domain=node.domain,
        module=scope(node),
        input_shapes=tuple([_fixed(counter.shape_of(value)) for value in inputs]),
        output_shapes=tuple([_fixed(counter.shape_of(value)) for value in outputs]),
        dtype=dtype_name(outputs[0]) if outputs else None,
        macs=total.macs if known else None,
        flops=total.flops if known else None,
        bias_adds=total.bias_adds if known else None,
        params=size,
        param_bytes=sum([param.bytes for param in own]),
        output_bytes=sum(
            [contents.bytes_of(value) or 0 for value in outputs if value not in contents.constants]
        ),
        mac_share=total.macs / macs if known else None,
        param_share=size / elements,
        intensity=_intensity(run, [contents.bytes_of(value) for value in (*inputs, *outputs)]),
        runs=run.times,
    )


@cache
def _fixed(shape: Shape | None) -> Shape | None:
    """The shape; None where it changes from one iteration of a loop to the next."""
    return shape if shape is None or all(isinstance(size, int) for size in shape) else None


def _present(values: Sequence[ir.Value | None]) -> list[ir.Value]:
    """Inputs or outputs without the omitted optional ones, which are None or have no name."""
    return [value for value in values if value is not None and value.name]


def _intensity(run: NodeRun, moved_bytes: Sequence[int | None]) -> float | None:
    """FLOPs per byte of one run; None where unknown. moved_bytes: sizes of all tensors read and written."""
    known = [size for size in moved_bytes if size is not None]
    if not isinstance(run.cost, Cost) or len(known) < len(moved_bytes) or not any(known):
        return None
    return float(run.cost.flops / sum(known))


def with_formulas(rows: Sequence[LayerRow], formulas: Sequence[Mapping[str, str]]) -> Sequence[LayerRow]:
    """The rows with their formulas added, unchanged where there are none."""
    if not formulas:
        return rows
    pairs = zip(rows, formulas, strict=True)
    return [LayerRow(**{**vars(row), "formulas": texts}) if texts else row for row, texts in pairs]
