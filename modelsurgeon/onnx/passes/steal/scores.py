"""The values in which a grown head and its donor must agree: the scores before classes are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.steal.class_flow import ClassFlow, class_flow
from modelsurgeon.onnx.passes.steal.parts import weighted_parts


@dataclass(frozen=True)
class ClassPlaces:
    """The axis of the classes in a value, and their number in the donor."""

    axis: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class ComparedValues:
    """Names of values that pair, in the donor and in what was made; axes: donor's name -> its classes."""

    donor: Sequence[str]
    made: Sequence[str]
    axes: Mapping[str, ClassPlaces]
    notes: Sequence[str]


def compared_values(donor: ir.Model, made: ir.Model, heads: Mapping[str, str]) -> ComparedValues:
    """The outputs that have no grown classes, paired by position, and the scores of every grown head.

    heads: layer of `made` -> the donor's. Outputs behind a comparison of classes are left out.
    """
    flows = (
        [_flows(model, names) for model, names in ((donor, heads.values()), (made, heads))]
        if heads
        else [[], []]
    )
    left_out: set[int] = set()
    for model, found in zip((donor, made), flows, strict=True):
        grown = {str(v.name) for flow in found for v in (*flow.axes, *flow.compared)}
        left_out |= {place for place, value in enumerate(model.graph.outputs) if value.name in grown}
    pairs = [
        (str(a.name), str(b.name))
        for place, (a, b) in enumerate(zip(donor.graph.outputs, made.graph.outputs, strict=True))
        if place not in left_out
    ]
    axes: dict[str, ClassPlaces] = {}
    for theirs, mine in zip(*flows, strict=True):
        for (a, axis), (b, _) in _paired_scores(theirs, mine):
            pairs.append((str(a.name), str(b.name)))
            axes[str(a.name)] = ClassPlaces(axis, theirs.classes)
    outputs = {str(value.name) for value in donor.graph.outputs}
    inner = [name for name in axes if name not in outputs]
    notes = [f"old classes are compared in {', '.join(inner)}, before classes are compared with each other"]
    unique = dict(pairs)
    return ComparedValues(donor=[*unique], made=[*unique.values()], axes=axes, notes=notes if inner else [])


def _flows(model: ir.Model, heads: object) -> list[ClassFlow]:
    context = PassContext(model=editable_copy(model))
    layers = weighted_parts(context.model).layers
    return [
        class_flow(context, layers[name].nodes, layers[name].layer.out_channels)
        for name in heads  # type: ignore[attr-defined]
    ]


def _paired_scores(
    theirs: ClassFlow, mine: ClassFlow
) -> list[tuple[tuple[ir.Value, int], tuple[ir.Value, int]]]:
    """The scores of a head in both models, in order; where their numbers differ, the head's own output."""
    if len(theirs.scores) == len(mine.scores):
        return list(zip(theirs.scores.items(), mine.scores.items(), strict=True))
    return [(next(iter(theirs.axes.items())), next(iter(mine.axes.items())))]
