"""Statistics of the inputs of batch norms on data, and running statistics recomputed from them.

The inputs of a norm depend on the norms before it, so they are measured in order: all norms of one depth at
once, on the part of the graph that computes their inputs, with the norms of smaller depths already updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import onnx_ir as ir

from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData, UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import drift
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, norms, read_norm, write_norm
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.run import runner
from modelsurgeon.onnx.run.runnable_part import part
from modelsurgeon.surgery.edits import Edit

ACTION = "recalibrate"


def recalibrate(context: PassContext) -> list[Edit]:
    """Set the statistics of every batch norm to mean and variance of its inputs over all samples.

    Raises BadData where there are no samples.
    """
    if context.batches is None or context.batches.kind != "data":
        raise BadData("statistics can't be made from noise: give samples with --data")
    edits: dict[str, Edit] = {}
    sites = []
    for node in norms(context.model):
        try:
            sites.append(_in_inference_mode(read_norm(context, node)))
        except UnsupportedLayer as reason:
            name = context.names[node]
            edits[name] = Edit(layer=name, action=ACTION, skipped=str(reason))
    for site, statistics in measured_in_order(context, sites, context.batches):
        edits[site.name] = _recalibrate_norm(context, site, statistics)
    return [edits[name] for name in context.names.values() if name in edits]


def measured_in_order(
    context: PassContext, sites: Sequence[NormSite], batches: Batches
) -> Iterator[tuple[NormSite, ChannelStatistics]]:
    """Every norm with the statistics of its input, measured after the norms before it were edited."""
    depths = _depths(context.graph, [site.node for site in sites])

    def depth(site: NormSite) -> int:
        return depths[site.node]

    for _, level in groupby(sorted(sites, key=depth), depth):
        level_sites = list(level)
        found = input_statistics(context, level_sites, batches)
        yield from ((site, found[str(site.x.name)]) for site in level_sites)


def input_statistics(
    context: PassContext, sites: Sequence[NormSite], batches: Batches
) -> Mapping[str, ChannelStatistics]:
    """Statistics of these norms' inputs over all samples, by the inputs' names."""
    names = list(dict.fromkeys(str(site.x.name) for site in sites))
    fed = {str(value.name) for value in context.graph.inputs}
    inside = [name for name in names if name not in fed]
    run = runner(part(context.model, inside), provider=context.provider) if inside else dict
    found: dict[str, ChannelStatistics] = {}
    for feed in batches:
        values = {**feed, **run(feed)}
        for name in names:
            new = ChannelStatistics.of(values[name])
            found[name] = found[name].with_more(new) if name in found else new
    return found


def _in_inference_mode(site: NormSite) -> NormSite:
    if site.training:
        raise UnsupportedLayer("it is in training mode, where stored statistics aren't used")
    return site


def _recalibrate_norm(context: PassContext, site: NormSite, statistics: ChannelStatistics) -> Edit:
    if reason := statistics.unusable_reason(site.norm.mean.dtype, site.norm.var.dtype):
        return Edit(layer=site.name, action=ACTION, skipped=reason)
    mean_drift, variance_drift = drift(site.norm, statistics)
    write_norm(context, site, replace(site.norm, mean=statistics.mean, var=statistics.var))
    details = {
        "mean_off": float(mean_drift.max()),
        "variance_off": float(variance_drift.max()),
        "values": statistics.count,
    }
    return Edit(layer=site.name, action=ACTION, details=details)


def _depths(graph: ir.Graph, chosen: Iterable[ir.Node]) -> dict[ir.Node, int]:
    """For every node the largest number of chosen nodes on a path to it, without itself."""
    counted = set(chosen)
    depths: dict[ir.Node, int] = {}
    value_depths: dict[ir.Value, int] = {}
    for node in graph:
        depths[node] = max((value_depths.get(value, 0) for value in inputs_and_captures(node)), default=0)
        value_depths |= dict.fromkeys(node.outputs, depths[node] + (node in counted))
    return depths
