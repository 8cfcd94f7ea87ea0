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
    """Names of values that pair, in the donor and in what was made; axes: donor's name -> its classes.

    problem: why the outputs can't be compared, or "".
    """

    donor: Sequence[str]
    made: Sequence[str]
    axes: Mapping[str, ClassPlaces]
    notes: Sequence[str]
    problem: str = ""


def compared_values(donor: ir.Model, made: ir.Model, heads: Mapping[str, str]) -> ComparedValues:
    """The outputs without grown classes, by name, then by position, and the scores of every grown head.

    heads: layer of `made` -> the donor's. Outputs behind a comparison of classes are left out.
    """
    flows = (
        [_flows(model, names) for model, names in ((donor, heads.values()), (made, heads))]
        if heads
        else [[], []]
    )
    grown = [{value for flow in found for value in (*flow.axes, *flow.compared)} for found in flows]
    grown_names = [{str(value.name) for value in values} for values in grown]
    outputs_paired = [
        (a, b)
        for a, b in _paired_outputs(donor, made)
        if a.name not in grown_names[0] and b.name not in grown_names[1]
    ]
    pairs = [(str(a.name), str(b.name)) for a, b in outputs_paired]
    problem = next((reason for a, b in outputs_paired if (reason := _why_unlike(a, b))), "")
    if problem:  # a declared shape may be wrong
        inferred = [PassContext(model=model).inferred for model in (donor, made)]
        reasons = (_why_unlike(inferred[0](a), inferred[1](b)) for a, b in outputs_paired)
        problem = next(filter(None, reasons), "")
    axes: dict[str, ClassPlaces] = {}
    for theirs, mine in zip(*flows, strict=True):
        for (a, axis), (b, _) in _paired_scores(theirs, mine):
            pairs.append((str(a.name), str(b.name)))
            axes[str(a.name)] = ClassPlaces(axis, theirs.classes)
    outputs = {str(value.name) for value in donor.graph.outputs}
    inner = [name for name in axes if name not in outputs]
    notes = [f"old classes are compared in {', '.join(inner)}, before classes are compared with each other"]
    unique = dict(pairs)
    return ComparedValues(
        donor=[*unique], made=[*unique.values()], axes=axes, notes=notes if inner else [], problem=problem
    )


def _paired_outputs(donor: ir.Model, made: ir.Model) -> list[tuple[ir.Value, ir.Value]]:
    """The outputs of both, as many in each: by name, the remaining ones in order."""
    theirs, mine = ([*model.graph.outputs] for model in (donor, made))
    named = {value.name: value for value in mine}
    names = {value.name for value in theirs}
    rest = iter([value for value in mine if value.name not in names])
    return [(value, named[value.name] if value.name in named else next(rest)) for value in theirs]


def _why_unlike(a: ir.Value, b: ir.Value) -> str:
    """Why two outputs can't be compared, by their types and ranks as far as these are known, or ""."""
    forms = [_form(value) for value in (a, b)]
    ranks = [None if value.shape is None else len(value.shape) for value in (a, b)]
    if forms[0] == forms[1] and (None in ranks or ranks[0] == ranks[1]):
        return ""
    words = [
        form if rank is None else f"{form} of rank {rank}" for form, rank in zip(forms, ranks, strict=True)
    ]
    return f"output {a.name!r} of the donor is {words[0]} and {b.name!r} of the recipient {words[1]}"


def _form(value: ir.Value) -> str:
    """The type of a value in words, one for floats of any width."""
    if isinstance(value.type, ir.TensorType):
        return "floats" if value.type.dtype.is_floating_point() else value.type.dtype.name.lower()
    return str(value.type)


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
