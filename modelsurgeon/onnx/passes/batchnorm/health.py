"""Find and repair what is wrong with the batch norms of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import NormFinding, findings, repair
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, end_training, norms, read_norm, write_norm
from modelsurgeon.onnx.passes.batchnorm.statistics import input_statistics, measured_in_order
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

DEFAULT_MOMENTUM = 0.9


def inspect(context: PassContext) -> dict[str, list[NormFinding]]:
    """Findings for every batch norm, by name; with samples, also the drift of its statistics."""
    found: dict[str, list[NormFinding]] = {}
    sites: list[NormSite] = []
    for node in norms(context.model):
        try:
            sites.append(read_norm(context, node))
            found[sites[-1].name] = []
        except UnsupportedLayer as reason:
            found[context.names[node]] = [NormFinding(rule="unreadable", message=str(reason))]
    measured = input_statistics(context, sites, context.batches) if context.batches and sites else {}
    for site in sites:
        statistics = measured.get(str(site.x.name))
        found[site.name] = findings(
            site.norm, training=site.training, momentum=site.momentum, truth=statistics
        )
    return found


def sanitize(context: PassContext) -> list[Edit]:
    """Repair every batch norm; with samples, in order, since statistics depend on the norms before."""
    edits: dict[str, Edit] = {}
    sites: list[NormSite] = []
    ended: set[ir.Node] = set()
    for node in norms(context.model):
        try:
            sites.append(read_norm(context, node))
        except UnsupportedLayer as reason:
            edits[context.names[node]] = _skipped_edit(context.names[node], skipped=str(reason))
    for site in sites:
        if site.training and not any(v.uses() or v.is_graph_output() for v in site.node.outputs[1:]):
            end_training(context, site)
            ended.add(site.node)
    for site, statistics in _with_measured_statistics(context, sites):
        done = ["training mode ended"] if site.node in ended else []
        edits[site.name] = _repair_norm(context, site, statistics, done)
    return [edits[name] for name in context.names.values() if name in edits]


def _with_measured_statistics(
    context: PassContext, sites: Sequence[NormSite]
) -> Iterator[tuple[NormSite, ChannelStatistics | None]]:
    if context.batches is None:
        yield from ((site, None) for site in sites)
    else:
        yield from measured_in_order(context, sites, context.batches)


def _repair_norm(
    context: PassContext, site: NormSite, statistics: ChannelStatistics | None, done: list[str]
) -> Edit:
    norm, repaired = repair(site.norm, statistics)
    sound = 0 <= site.momentum <= 1
    done = [*done, *repaired] + ([] if sound else [f"momentum set to {DEFAULT_MOMENTUM:g}"])
    if not done:
        return _skipped_edit(site.name, skipped="nothing is wrong with it")
    write_norm(context, site, norm, **({} if sound else {"momentum": DEFAULT_MOMENTUM}))
    return Edit(layer=site.name, action="sanitize", details={"repairs": "; ".join(done)})


def _skipped_edit(layer: str, skipped: str) -> Edit:
    return Edit(layer=layer, action="sanitize", skipped=skipped)
