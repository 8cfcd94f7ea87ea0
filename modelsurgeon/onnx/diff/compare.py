"""Difference of two ONNX models: their layers are paired, and the changes listed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from modelsurgeon.inspection.difference import Difference
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.matching.alignment import Pair, align
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.rows import totals
from modelsurgeon.onnx.diff.changes import change
from modelsurgeon.onnx.diff.nodes import DiffNode, Digest, diff_nodes, is_identity
from modelsurgeon.onnx.diff.structure import Structure, pairs_by_structure
from modelsurgeon.onnx.diff.wiring import PairedWires, Wires, body_owners
from modelsurgeon.onnx.graph.names import nodes_with_functions
from modelsurgeon.onnx.shapes import Dims, data_inputs
from modelsurgeon.onnx.shapes.bound_model import dims_by_model
from modelsurgeon.onnx.shapes.run_time.sizes import run_time_sizes
from modelsurgeon.report.formatting import show

Shapes = Mapping[str, Sequence[int]]
NAME = re.compile(r"[^\W\d]\w*")
LAST_LISTING_IR_VERSION = 3  # lists all initializers among the inputs; they are constants nevertheless


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
    pairs, equal = _pairs(before, after, structures)
    wiring = _wiring(pairs, (before, after), structures, digest, exact=equal and weights)
    moved = () if weights else _moved_weights(pairs, before, after)
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
            *_opset_changes(*(model.fully_bound for model in models)),
            *_port_changes(headers, [run_time_sizes(model.symbolic) for model in models]),
            *_default_changes(a, b),
            *wiring.output_changes(graph_a, graph_b),
            *_function_changes(models, structures),
        ],
        notes=list(dict.fromkeys([*_notes(models, weights), *moved])),
    )


def aligned_nodes(
    models: Sequence[MeasuredModel], digest: Digest
) -> tuple[tuple[list[DiffNode], list[DiffNode]], list[Pair]]:
    """The nodes of two models as `diff` compares them, and which of them belong together, by index."""
    before, after = ([*diff_nodes(model, digest)] for model in models)
    structures = _structures([model.fully_bound for model in models], (before, after), digest)
    return (before, after), _pairs(before, after, structures)[0]


def _pairs(
    before: Sequence[DiffNode], after: Sequence[DiffNode], structures: Sequence[Structure]
) -> tuple[list[Pair], bool]:
    """Pairs of nodes, and whether all but Identities are equal. Identities are paired by themselves, last."""
    found: list[Pair] = []
    equal = True
    for identities in (False, True):
        at = [
            [index for index, each in enumerate(nodes) if is_identity(each.node) is identities]
            for nodes in (before, after)
        ]
        nodes = ([before[index] for index in at[0]], [after[index] for index in at[1]])
        pairs = pairs_by_structure(*nodes, [each.keys for each in structures])
        equal = equal and (identities or pairs is not None)
        if pairs is None:
            pairs = pairs_by_structure(*nodes, [each.numbers for each in structures])
        if pairs is None:
            pairs = align(*([node.item for node in side] for side in nodes))
        found += [([at[0][i] for i in left], [at[1][j] for j in right]) for left, right in pairs]
    return found, equal


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


def _opset_changes(a: ir.Model, b: ir.Model) -> Iterator[str]:
    """Changes of the opsets that the nodes of each model use."""
    imports, used = [], []
    for model in (a, b):
        domains = {"", *(node.domain for node in nodes_with_functions(model))}
        found = {"" if name in STANDARD_DOMAINS else name: n for name, n in model.opset_imports.items()}
        imports.append(", ".join(f"{name or 'onnx'} {version}" for name, version in found.items()))
        used.append({name: version for name, version in found.items() if name in domains})
    if used[0] != used[1]:
        yield f"opset: {' → '.join(imports)}"


def _port_changes(headers: Sequence[Mapping[str, Any]], run_time: Sequence[Collection[str]]) -> Iterator[str]:
    """Changes of inputs and outputs. run_time: names of each model's sizes known at run time only.

    The file names most of these sizes after nodes, so that other names are no difference.
    """
    names: dict[str, str] = {}
    tokens = (NAME.findall(_ports_text([*each["inputs"], *each["outputs"]])) for each in headers)
    for ours, theirs in zip(*tokens, strict=False):
        if ours in run_time[0] and theirs in run_time[1] and ours not in names.values():
            names.setdefault(theirs, ours)
    for key in ("inputs", "outputs"):
        texts = [_ports_text(each[key]) for each in headers]
        if texts[0] != NAME.sub(lambda match: names.get(match[0], match[0]), texts[1]):
            yield f"{key}: {' → '.join(texts)}"


def _ports_text(ports: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{port['name']} {port['dtype']} {show(port['shape'], 'shape')}" for port in ports)


def _default_changes(a: ir.Model, b: ir.Model) -> Iterator[str]:
    """A change of the inputs with defaults, which a caller may override from IR version 4 on."""
    names = [
        sorted(str(value.name) for value in model.graph.inputs if value.is_initializer())
        if model.ir_version > LAST_LISTING_IR_VERSION
        else []
        for model in (a, b)
    ]
    if names[0] != names[1]:
        yield f"inputs with defaults: {' → '.join(', '.join(each) or 'none' for each in names)}"


def _name(header: Mapping[str, Any], otherwise: str) -> str:
    return str(header["path"] or otherwise)


def _notes(models: Sequence[MeasuredModel], weights: bool) -> Iterator[str]:
    for measured in models:
        if measured.defaults:
            yield "shown for " + ", ".join(f"{name} = {size}" for name, size in measured.defaults.items())
    if not weights:
        yield "weights are compared by type and shape only"


def _moved_weights(
    pairs: Sequence[Pair], before: Sequence[DiffNode], after: Sequence[DiffNode]
) -> Iterator[str]:
    """A note where nodes read constants of other names that both models have: unread, they may differ."""
    known = [{operand.name for each in nodes for operand in each.constants} for nodes in (before, after)]
    moved = [
        f"{ours.name!r} → {theirs.name!r} in {before[left[0]].row.name!r}"
        for left, right in pairs
        if len(left) == len(right) == 1
        for ours, theirs in zip(before[left[0]].constants, after[right[0]].constants, strict=False)
        if ours.name != theirs.name and ours.name in known[1] and theirs.name in known[0]
    ]
    if moved:
        more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        yield f"weights may have changed places, which shows where they are read: {moved[0]}{more}"
