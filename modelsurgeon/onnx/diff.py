"""Difference of two ONNX models: their layers are paired, and the changes listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelsurgeon.inspection.difference import Change, Difference
from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.matching.alignment import Item, align
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.rows import totals
from modelsurgeon.onnx.graph.attributes import non_default_attributes
from modelsurgeon.onnx.graph.dataflow import GRAPH_ATTRIBUTES
from modelsurgeon.onnx.io.long_lists import MIN_LENGTH, LongList, digest
from modelsurgeon.onnx.shapes import Dims
from modelsurgeon.report.formatting import show

Shapes = Mapping[str, Sequence[int]]
MAX_TEXT_LENGTH = 40  # of an attribute; of a longer one the change says only that it differs
HEADER_KEYS = ("opset", "inputs", "outputs")


@dataclass(frozen=True, kw_only=True)
class DiffNode:
    """A node under comparison. attributes: as text. constants: digests of its constant inputs, by index."""

    row: LayerRow
    attributes: Mapping[str, str]
    constants: Mapping[int, str]

    @property
    def item(self) -> Item:
        """Name, operator and traits, by which nodes of the two models are paired."""
        traits = (
            self.row.output_shapes,
            self.row.input_shapes,
            self.row.params,
            tuple(self.attributes.items()),
        )
        return Item(name=self.row.name, op=self.row.op, traits=traits)


def diff(
    a: ir.Model, b: ir.Model, *, shapes: Shapes | None = None, dims: Dims | None = None, weights: bool = True
) -> Difference:
    """Difference of two models: changes of layers, totals, opsets, inputs and outputs.

    shapes: input name -> sizes. dims: symbol -> size. weights: whether to read weights and compare their
    values. Raises UnknownShape for bindings that don't fit both models.
    """
    digest = _Digest(read=weights)
    models = [MeasuredModel.of(model, shapes, dims) for model in (a, b)]
    before, after = ([*_diff_nodes(model, digest)] for model in models)
    pairs = align([node.item for node in before], [node.item for node in after])
    changes = [change([before[i] for i in left], [after[j] for j in right]) for left, right in pairs]
    headers = [
        describe_model(model, measured.symbolic) for model, measured in zip((a, b), models, strict=True)
    ]
    return Difference(
        names=(_name(headers[0], "A"), _name(headers[1], "B")),
        before=totals(models[0].node_runs, models[0].contents),
        after=totals(models[1].node_runs, models[1].contents),
        changes=changes,
        model=[*_header_changes(*headers)],
        notes=list(dict.fromkeys(_notes(models, weights))),
    )


def _diff_nodes(measured: MeasuredModel, digest: _Digest) -> Iterator[DiffNode]:
    """Every node except Constant; constants are compared as inputs of the nodes that use them."""
    for run, row in zip(measured.node_runs, measured.rows, strict=True):
        node = run.node
        if node.op_type == "Constant" and not node.domain:
            continue
        constants = {index: digest(tensor) for index, tensor in _constants(node)}
        attributes = dict(_attributes(node, measured.fully_bound.opset_imports, digest))
        yield DiffNode(row=row, attributes=attributes, constants=constants)


def _constants(node: ir.Node) -> Iterator[tuple[int, ir.TensorProtocol]]:
    for index, value in enumerate(node.inputs):
        producer = value and value.producer()
        if value is None or not (value.is_initializer() or (producer and producer.op_type == "Constant")):
            continue
        if (tensor := ir.convenience.get_const_tensor(value)) is not None:
            yield index, tensor


def _attributes(node: ir.Node, opsets: Mapping[str, int], digest: _Digest) -> Iterator[tuple[str, str]]:
    """Attributes as name and text, without graphs, whose nodes are compared by themselves."""
    for attribute in non_default_attributes(node, opsets):
        if attribute.is_ref() or attribute.type in GRAPH_ATTRIBUTES:
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            yield attribute.name, digest(attribute.as_tensor())
        else:
            yield attribute.name, _attribute_text(attribute.value)


def _attribute_text(value: Any) -> str:  # noqa: ANN401
    """An attribute's value as text; floats in the fewest digits of float32, the type that the file stores."""
    if isinstance(value, tuple | list | LongList):
        if len(value) >= MIN_LENGTH:
            return digest(value)
        return f"[{', '.join(map(_attribute_text, value))}]"
    return str(np.float32(value)) if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class _Digest:
    """Digest of a tensor: type, shape and, if `read`, the SHA-256 of its bytes."""

    read: bool

    def __call__(self, tensor: ir.TensorProtocol) -> str:
        """The digest as text, equal for equal tensors."""
        kind = f"{tensor.dtype.name.lower()} {show(tensor.shape.numpy(), 'shape')}"
        if not self.read or tensor.dtype == ir.DataType.STRING:
            return kind
        return f"{kind} {hashlib.sha256(tensor.tobytes()).hexdigest()[:16]}"


def change(before: Sequence[DiffNode], after: Sequence[DiffNode]) -> Change:
    """Change of a layer. before, after: its nodes in each model; one may be empty.

    The kind is "added", "removed", "replaced", "changed", "renamed" or "same".
    """
    rows: dict[str, Any] = {"before": [node.row for node in before], "after": [node.row for node in after]}
    if not before or not after:
        return Change(kind="removed" if before else "added", **rows, what=_output_shape((*before, *after)))
    if len(after) > 1 or after[0].row.name == f"{before[0].row.name}.0":
        return Change(kind="replaced", **rows, what=[f"now a chain of {len(after)}"])
    what = [*_differences(before[0], after[0])]
    name = after[0].row.name
    renamed = [f"now called {name}"] if name != before[0].row.name else []
    return Change(
        kind="changed" if what else "renamed" if renamed else "same", **rows, what=[*what, *renamed]
    )


def _output_shape(diff_nodes: Sequence[DiffNode]) -> list[str]:
    shapes = (show(node.row.output, "shape") for node in diff_nodes if node.row.output is not None)
    return [f"output {shape}" for shape in list(shapes)[-1:]]


def _differences(before: DiffNode, after: DiffNode) -> Iterator[str]:
    was, now = before.row, after.row
    if was.op != now.op:
        yield f"{was.op} → {now.op}"
    yield from _shape_changes("input", was.input_shapes, now.input_shapes)
    yield from _shape_changes("output", was.output_shapes, now.output_shapes)
    if was.runs != now.runs:
        yield f"runs {was.runs} → {now.runs} times"
    if was.dtype != now.dtype:
        yield f"{was.dtype} → {now.dtype}"
    for name in sorted({*before.attributes, *after.attributes}):
        yield from _attribute_change(name, before.attributes.get(name), after.attributes.get(name))
    indices = {*before.constants, *after.constants}
    if len(was.input_shapes) != len(now.input_shapes):  # added or removed inputs are reported by shape
        indices = {*before.constants} & {*after.constants}
    for index in sorted(indices):
        yield from _constant_change(index, before.constants.get(index), after.constants.get(index))


def _shape_changes(what: str, was: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
    for index in range(max(len(was), len(now))):
        old, new = (shapes[index] if index < len(shapes) else None for shapes in (was, now))
        if old != new:
            number = f" {index}" if index else ""
            yield f"{what}{number} {_shape_text(old)} → {_shape_text(new)}"


def _shape_text(shape: Sequence[int] | None) -> str:
    return "none" if shape is None else show(shape, "shape")


def _attribute_change(name: str, was: str | None, now: str | None) -> Iterator[str]:
    if was != now:
        short = max(len(was or ""), len(now or "")) <= MAX_TEXT_LENGTH
        yield f"{name} {was or 'unset'} → {now or 'unset'}" if short else f"{name} differs"


def _constant_change(index: int, was: str | None, now: str | None) -> Iterator[str]:
    """Change of a constant input's type or values; a change of its shape is reported elsewhere."""
    if was is None or now is None:
        if was != now:
            yield f"input {index} is {'a constant now' if was is None else 'no constant any more'}"
    elif was != now and was.split(" ")[1] == now.split(" ")[1]:
        types = (was.split(" ")[0], now.split(" ")[0])
        yield f"input {index} " + (" → ".join(types) if types[0] != types[1] else "has other values")


def _header_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Changes of opsets, inputs and outputs."""
    for key in HEADER_KEYS:
        if a[key] != b[key]:
            yield f"{key}: {_describe_value(a[key])} → {_describe_value(b[key])}"


def _describe_value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        return ", ".join(f"{domain or 'onnx'} {version}" for domain, version in value.items())
    return ", ".join(f"{port['name']} {port['dtype']} {show(port['shape'], 'shape')}" for port in value)


def _name(header: Mapping[str, Any], otherwise: str) -> str:
    return str(header["path"] or otherwise)


def _notes(models: Sequence[MeasuredModel], weights: bool) -> Iterator[str]:
    for measured in models:
        if measured.defaults:
            yield "shown for " + ", ".join(f"{name} = {size}" for name, size in measured.defaults.items())
    if not weights:
        yield "weights are compared by type and shape only"
