"""Difference of two ONNX models: their layers are paired, and the changes listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from modelsurgeon.inspection.difference import Difference
from modelsurgeon.matching.alignment import Pair, align
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.rows import totals
from modelsurgeon.onnx.diff.changes import change
from modelsurgeon.onnx.diff.nodes import DiffNode, Digest, diff_nodes
from modelsurgeon.onnx.diff.structure import Structure, pairs_by_structure
from modelsurgeon.onnx.diff.wiring import PairedWires, Wires, body_owners
from modelsurgeon.onnx.shapes import Dims, data_inputs
from modelsurgeon.onnx.shapes.bound_model import dims_by_model
from modelsurgeon.report.formatting import show

Shapes = Mapping[str, Sequence[int]]
HEADER_KEYS = ("opset", "inputs", "outputs")


def diff(
    a: ir.Model, b: ir.Model, *, shapes: Shapes | None = None, dims: Dims | None = None, weights: bool = True
) -> Difference:
    """Difference of two models: changes of layers, wiring, totals, opsets, inputs and outputs.

    shapes: input name -> sizes. dims: symbol -> size; a symbol may belong to one model only. weights: whether
    to read weights and compare their values. Raises UnknownShape for bindings that don't fit the models.
    """
    digest = Digest(read=weights)
    given = dims_by_model((a, b), shapes, dims) if dims else ({}, {})
    models = [MeasuredModel.of(model, shapes, own) for model, own in zip((a, b), given, strict=True)]
    before, after = ([*diff_nodes(model, digest)] for model in models)
    structures = _structures([model.fully_bound for model in models], (before, after), digest)
    pairs = pairs_by_structure(before, after, [each.keys for each in structures])
    exact = pairs is not None and weights
    if pairs is None:
        pairs = pairs_by_structure(before, after, [each.numbers for each in structures])
    if pairs is None:
        pairs = align([node.item for node in before], [node.item for node in after])
    wiring = _wiring(pairs, (before, after), structures, digest, exact=exact)
    headers = [
        describe_model(model, measured.symbolic) for model, measured in zip((a, b), models, strict=True)
    ]
    graph_a, graph_b = (model.fully_bound.graph for model in models)
    return Difference(
        names=(_name(headers[0], "A"), _name(headers[1], "B")),
        before=totals(models[0].node_runs, models[0].contents),
        after=totals(models[1].node_runs, models[1].contents),
        changes=[
            change([before[i] for i in left], [after[j] for j in right], wiring) for left, right in pairs
        ],
        model=[
            *_header_changes(*headers),
            *wiring.output_changes(graph_a, graph_b),
            *_function_changes(models, structures),
        ],
        notes=list(dict.fromkeys(_notes(models, weights))),
    )


def _structures(
    models: Sequence[ir.Model], nodes: Sequence[Sequence[DiffNode]], digest: Digest
) -> list[Structure]:
    """The numbers of all nodes and values of two models, from one table."""
    table: dict[Any, int] = {}
    found = []
    for model, names, own in zip(models, _input_names(*models), nodes, strict=True):
        structure = Structure(
            opsets=model.opset_imports,
            digest=digest,
            table=table,
            input_names=names,
            attributes={each.node: each.attributes for each in own},
        )
        structure.number_graph(model.graph)
        structure.key_graph(model.graph)
        found.append(structure)
    return found


def _input_names(a: ir.Model, b: ir.Model) -> tuple[dict[ir.Value, str], dict[ir.Value, str]]:
    """Names of the inputs of both models; those of `b` that have other names get those of `a`, in order."""
    ours, theirs = ([*data_inputs(model)] for model in (a, b))
    names, known = [str(value.name) for value in ours], {value.name for value in theirs}
    free = iter([name for name in names if name not in known])
    renamed = {
        value: str(value.name) if value.name in names else next(free, str(value.name)) for value in theirs
    }
    return dict(zip(ours, names, strict=True)), renamed


def _wiring(
    pairs: Sequence[Pair],
    nodes: Sequence[Sequence[DiffNode]],
    structures: Sequence[Structure],
    digest: Digest,
    *,
    exact: bool,
) -> PairedWires:
    """The wiring of both models under these pairs; the last node of a chain makes its result."""
    ends = [(left[-1], right[-1]) for left, right in pairs if left and right]
    before, after = (
        Wires(
            pair_of={nodes[side][ends[number][side]].node: number for number in range(len(ends))},
            names={each.node: each.row.name for each in nodes[side]},
            structure=structures[side],
            owners=body_owners(nodes[side]),
        )
        for side in (0, 1)
    )
    return PairedWires(before=before, after=after, digest=digest, exact=exact)


def _function_changes(models: Sequence[MeasuredModel], structures: Sequence[Structure]) -> Iterator[str]:
    """Changes of functions that couldn't be inlined."""
    a, b = (
        {
            identifier: structure.number_graph(function.graph, (identifier,))
            for identifier, function in model.fully_bound.functions.items()
        }
        for model, structure in zip(models, structures, strict=True)
    )
    for identifier in dict.fromkeys((*a, *b)):
        if a.get(identifier) != b.get(identifier):
            yield f"function {'.'.join(filter(None, identifier))}: its nodes differ"


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
