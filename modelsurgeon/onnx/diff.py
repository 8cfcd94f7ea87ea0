"""Two ONNX models side by side: which layers are the same ones, and what became of them."""

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
from modelsurgeon.onnx.graph.attributes import stated
from modelsurgeon.onnx.shapes import Dims
from modelsurgeon.report.formatting import show

Shapes = Mapping[str, Sequence[int]]
MAX_TEXT_LENGTH = 40  # a longer attribute is only said to differ
GRAPH_ATTRIBUTES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
FRAME = ("opset", "inputs", "outputs")


@dataclass(frozen=True, kw_only=True)
class DiffNode:
    """A node with what is told of it. attributes: in words. constants: its constant inputs by index."""

    row: LayerRow
    attributes: Mapping[str, str]
    constants: Mapping[int, str]

    @property
    def item(self) -> Item:
        """What it is found again by."""
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
    """What differs between two models, at the sizes given. weights: read them, and tell which are equal.

    Raises UnknownShape for bindings that don't fit both models.
    """
    digest = _Digest(read=weights)
    models = [MeasuredModel.of(model, shapes, dims) for model in (a, b)]
    before, after = ([*_parts(model, digest)] for model in models)
    pairs = align([part.item for part in before], [part.item for part in after])
    changes = [change([before[i] for i in left], [after[j] for j in right]) for left, right in pairs]
    frames = [describe_model(model, found.opened) for model, found in zip((a, b), models, strict=True)]
    return Difference(
        names=(_name(frames[0], "A"), _name(frames[1], "B")),
        before=totals(models[0].visits, models[0].held),
        after=totals(models[1].visits, models[1].held),
        changes=changes,
        model=[*_frames(*frames)],
        notes=list(dict.fromkeys(_assumed(models, weights))),
    )


def _parts(found: MeasuredModel, digest: _Digest) -> Iterator[DiffNode]:
    """Every node but constants: these are told of the nodes that take them."""
    for visit, row in zip(found.visits, found.rows, strict=True):
        node = visit.node
        if node.op_type == "Constant" and not node.domain:
            continue
        constants = {place: digest(tensor) for place, tensor in _constants(node)}
        attributes = dict(_attributes(node, found.whole.opset_imports, digest))
        yield DiffNode(row=row, attributes=attributes, constants=constants)


def _constants(node: ir.Node) -> Iterator[tuple[int, ir.TensorProtocol]]:
    for place, value in enumerate(node.inputs):
        maker = value and value.producer()
        if value is None or not (value.is_initializer() or (maker and maker.op_type == "Constant")):
            continue
        if (tensor := ir.convenience.get_const_tensor(value)) is not None:
            yield place, tensor


def _attributes(node: ir.Node, opsets: Mapping[str, int], digest: _Digest) -> Iterator[tuple[str, str]]:
    """Attributes in words; the nodes of graphs are layers of their own."""
    for attribute in stated(node, opsets):
        if attribute.is_ref() or attribute.type in GRAPH_ATTRIBUTES:
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            yield attribute.name, digest(attribute.as_tensor())
        else:
            yield attribute.name, _worded(attribute.value)


def _worded(value: Any) -> str:  # noqa: ANN401
    """Numbers as short as single precision takes: that is what a file holds."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_worded, value))}]"
    return str(np.float32(value)) if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class _Digest:
    """Tells tensors apart: by type, shape and, where they may be read, their bytes."""

    read: bool

    def __call__(self, tensor: ir.TensorProtocol) -> str:
        """The same text for equal tensors."""
        kind = f"{tensor.dtype.name.lower()} {show(tensor.shape.numpy(), 'shape')}"
        if not self.read or tensor.dtype == ir.DataType.STRING:
            return kind
        return f"{kind} {hashlib.sha256(tensor.tobytes()).hexdigest()[:16]}"


def change(before: Sequence[DiffNode], after: Sequence[DiffNode]) -> Change:
    """What became of a layer, or of one that is only in one of the models."""
    rows: dict[str, Any] = {"before": [part.row for part in before], "after": [part.row for part in after]}
    if not before or not after:
        return Change(kind="removed" if before else "added", **rows, what=_described((*before, *after)))
    if len(after) > 1 or after[0].row.name == f"{before[0].row.name}.0":
        return Change(kind="replaced", **rows, what=[f"now a chain of {len(after)}"])
    what = [*_differences(before[0], after[0])]
    name = after[0].row.name
    renamed = [f"now called {name}"] if name != before[0].row.name else []
    return Change(
        kind="changed" if what else "renamed" if renamed else "same", **rows, what=[*what, *renamed]
    )


def _described(parts: Sequence[DiffNode]) -> list[str]:
    shapes = (show(part.row.output, "shape") for part in parts if part.row.output is not None)
    return [f"output {shape}" for shape in list(shapes)[-1:]]


def _differences(before: DiffNode, after: DiffNode) -> Iterator[str]:
    was, now = before.row, after.row
    if was.op != now.op:
        yield f"{was.op} → {now.op}"
    yield from _shapes("input", was.input_shapes, now.input_shapes)
    yield from _shapes("output", was.output_shapes, now.output_shapes)
    if was.runs != now.runs:
        yield f"runs {was.runs} → {now.runs} times"
    if was.dtype != now.dtype:
        yield f"{was.dtype} → {now.dtype}"
    for name in sorted({*before.attributes, *after.attributes}):
        yield from _changed(name, before.attributes.get(name), after.attributes.get(name))
    places = {*before.constants, *after.constants}
    if len(was.input_shapes) != len(now.input_shapes):  # one that is new or gone has been told by its shape
        places = {*before.constants} & {*after.constants}
    for place in sorted(places):
        yield from _constant(place, before.constants.get(place), after.constants.get(place))


def _shapes(what: str, was: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
    for place in range(max(len(was), len(now))):
        old, new = (shapes[place] if place < len(shapes) else None for shapes in (was, now))
        if old != new:
            number = f" {place}" if place else ""
            yield f"{what}{number} {_shape(old)} → {_shape(new)}"


def _shape(shape: Sequence[int] | None) -> str:
    return "none" if shape is None else show(shape, "shape")


def _changed(name: str, was: str | None, now: str | None) -> Iterator[str]:
    if was != now:
        short = max(len(was or ""), len(now or "")) <= MAX_TEXT_LENGTH
        yield f"{name} {was or 'unset'} → {now or 'unset'}" if short else f"{name} differs"


def _constant(place: int, was: str | None, now: str | None) -> Iterator[str]:
    """Equal shapes are told already: here it is types and numbers."""
    if was is None or now is None:
        if was != now:
            yield f"input {place} is {'a constant now' if was is None else 'no constant any more'}"
    elif was != now and was.split(" ")[1] == now.split(" ")[1]:
        types = (was.split(" ")[0], now.split(" ")[0])
        yield f"input {place} " + (" → ".join(types) if types[0] != types[1] else "has other values")


def _frames(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """What differs in opsets, inputs and outputs."""
    for key in FRAME:
        if a[key] != b[key]:
            yield f"{key}: {_describe_value(a[key])} → {_describe_value(b[key])}"


def _describe_value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        return ", ".join(f"{domain or 'onnx'} {version}" for domain, version in value.items())
    return ", ".join(f"{port['name']} {port['dtype']} {show(port['shape'], 'shape')}" for port in value)


def _name(frame: Mapping[str, Any], otherwise: str) -> str:
    return str(frame["path"] or otherwise)


def _assumed(models: Sequence[MeasuredModel], weights: bool) -> Iterator[str]:
    for found in models:
        if found.defaults:
            yield "shown for " + ", ".join(f"{name} = {size}" for name, size in found.defaults.items())
    if not weights:
        yield "weights are compared by type and shape only"
