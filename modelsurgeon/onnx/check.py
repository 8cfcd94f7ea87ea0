"""The rules over a model: all of them as a report for `check`, the bottlenecks among them for `info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.findings import Report
from modelsurgeon.inspection.rows import Bottleneck
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.lint import DEFAULT_BALANCE, RULES, Net, chosen_rules, findings, hits
from modelsurgeon.onnx.shapes import Dims, open_shapes

MAX_BOTTLENECKS_PER_RULE = 3  # bottlenecks of one rule; more would hide those of others


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
    """What the rules find in a model, the gravest first.

    shapes: input name -> sizes. dims: symbol -> size. select, ignore: ids of rules; without `select` all are
    asked, those that read weights only where `weights` says so; `rule:glob` ignores it for layers of such
    names. balance: FLOPs for each byte of the machine. spend: nobody needs `model` as it is any more. Raises
    ValueError for a rule that there isn't, UnknownShape for bindings that don't fit the model.
    """
    rules = chosen_rules(select, ignore, weights=weights)
    measured = MeasuredModel.of(model, shapes, dims, spend=spend)
    net = _net(measured, balance)
    return Report(
        model=describe_model(model, measured.opened),
        findings=findings(net, rules, ignore),
        rules=rules,
        roofline=net.roofline,
        notes=[*_assumed(measured), *measured.notes],
    )


def bottlenecks(measured: MeasuredModel) -> list[Bottleneck]:
    """What those rules find that are bottlenecks, of each the worst few."""
    net = _net(measured)
    return [
        Bottleneck(layer=hit.layer, rule=rule.id, message=hit.message)
        for rule in RULES.values()
        if rule.bottleneck
        for hit in hits(net, rule)[:MAX_BOTTLENECKS_PER_RULE]
    ]


def _net(measured: MeasuredModel, balance: float = DEFAULT_BALANCE) -> Net:
    return Net(
        model=measured.whole,
        visits=measured.visits,
        rows=measured.rows,
        fixed=measured.held.fixed,
        balance=balance,
        opened=_shapes(measured.opened) if measured.defaults else {},
    )


def _shapes(model: ir.Model) -> dict[str, ir.Shape | None]:
    """By name, of all that the model is given or computes."""
    computed = (value for node in nodes(model) for value in node.outputs)
    shape_of = open_shapes(model)
    return {str(value.name): shape_of(value) for value in (*model.graph.inputs, *computed)}


def _assumed(measured: MeasuredModel) -> list[str]:
    """Findings hold at the sizes they were made at."""
    given = ", ".join(f"{name} = {size}" for name, size in measured.defaults.items())
    return [f"judged at {given}"] if given else []
