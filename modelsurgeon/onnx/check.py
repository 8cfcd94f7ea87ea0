"""Findings of the rules on a model: all of them for `check`, the bottlenecks for `info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.findings import Report
from modelsurgeon.inspection.rows import Bottleneck
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.lint import DEFAULT_BALANCE, RULES, Net, Verbs, chosen_rules, findings, hits
from modelsurgeon.onnx.shapes import Dims, open_shapes

MAX_BOTTLENECKS_PER_RULE = 3  # more would hide those of other rules


def check(
    model: ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    weights: bool = False,
    balance: float = DEFAULT_BALANCE,
    spend: bool = False,
) -> Report:
    """Findings of the rules in a model, the most severe first.

    shapes: input name -> sizes. dims: symbol -> size. select, ignore: ids of rules; without `select` all run,
    those that read weights only with `weights`; in `ignore`, `rule:glob` covers layers with such names only.
    balance: FLOPs per byte of the machine. spend: `model` may be changed in place. Raises ValueError for an
    unknown rule, UnknownShape for bindings that don't fit the model.
    """
    rules = chosen_rules(select, ignore, weights=weights)
    measured = MeasuredModel.of(model, shapes, dims, spend=spend and not (shapes or dims))
    verbs = Verbs(model=model, reads_weights=weights, inferred=measured.symbolic is model)
    net = _net(measured, balance, verbs)
    return Report(
        model=describe_model(model, measured.symbolic),
        findings=findings(net, rules, ignore),
        rules=rules,
        roofline=net.roofline,
        notes=[*_default_size_notes(measured), *measured.notes],
    )


def bottlenecks(measured: MeasuredModel) -> list[Bottleneck]:
    """The worst few findings of each rule that is about bottlenecks."""
    net = _net(measured)
    return [
        Bottleneck(layer=hit.layer, rule=rule.id, message=hit.message)
        for rule in RULES.values()
        if rule.bottleneck
        for hit in hits(net, rule)[:MAX_BOTTLENECKS_PER_RULE]
    ]


def _net(measured: MeasuredModel, balance: float = DEFAULT_BALANCE, verbs: Verbs | None = None) -> Net:
    return Net(
        model=measured.fully_bound,
        node_runs=measured.node_runs,
        rows=measured.rows,
        constants=measured.contents.constants,
        balance=balance,
        symbolic_shapes=_open_shapes(measured) if measured.defaults else {},
        verbs=verbs,
    )


def _open_shapes(measured: MeasuredModel) -> dict[ir.Value, ir.Shape | None]:
    """Shapes before open sizes got their defaults, by the values of the fully bound model."""
    shape_of = open_shapes(measured.symbolic)
    pairs = zip(_values(measured.fully_bound), _values(measured.symbolic), strict=True)
    return {value: shape_of(twin) for value, twin in pairs}


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in nodes(model):
        yield from node.outputs


def _default_size_notes(measured: MeasuredModel) -> list[str]:
    """A note on the default sizes, which the findings depend on."""
    sizes = ", ".join(f"{name} = {size}" for name, size in measured.defaults.items())
    return [f"judged at {sizes}"] if sizes else []
