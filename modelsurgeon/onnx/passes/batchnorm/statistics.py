"""What data shows at the inputs of batch norm, and statistics made anew from it.

Later norms see what earlier ones give, so they are measured in order: all of the same depth at once, each
time on the part of the graph that leads to them, with the statistics of the depths before already in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData, UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import drift
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.io.serialize import copy
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, norms, read, write
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.run import runner
from modelsurgeon.surgery.edits import Edit

ACTION = "recalibrate"


def recalibrate(subject: PassContext) -> list[Edit]:
    """Give every batch norm the mean and variance of its inputs over all samples. Raises BadData."""
    if subject.batches is None or subject.batches.kind != "data":
        raise BadData("statistics can't be made from noise: give samples with --data")
    edits: dict[str, Edit] = {}
    sites = []
    for node in norms(subject.model):
        try:
            sites.append(_sound(read(subject, node)))
        except UnsupportedLayer as reason:
            name = subject.names[node]
            edits[name] = Edit(layer=name, action=ACTION, skipped=str(reason))
    for site, truth in in_order(subject, sites, subject.batches):
        edits[site.name] = _renewed(subject, site, truth)
    return [edits[name] for name in subject.names.values() if name in edits]


def in_order(
    subject: PassContext, sites: Sequence[NormSite], batches: Batches
) -> Iterator[tuple[NormSite, ChannelStatistics]]:
    """Every norm with what data shows at its input, once all norms before it have been dealt with."""
    depths = _depths(subject.graph, [site.node for site in sites])

    def depth(site: NormSite) -> int:
        return depths[site.node]

    for _, level in groupby(sorted(sites, key=depth), depth):
        here = list(level)
        found = populations(subject, here, batches)
        yield from ((site, found[str(site.x.name)]) for site in here)


def populations(
    subject: PassContext, sites: Sequence[NormSite], batches: Batches
) -> Mapping[str, ChannelStatistics]:
    """What data shows at the inputs of these norms, by the inputs' names."""
    names = list(dict.fromkeys(str(site.x.name) for site in sites))
    fed = {str(value.name) for value in subject.graph.inputs}
    inside = [name for name in names if name not in fed]
    run = runner(_part(subject.model, inside), provider=subject.provider) if inside else dict
    found: dict[str, ChannelStatistics] = {}
    for feed in batches:
        values = {**feed, **run(feed)}
        for name in names:
            new = ChannelStatistics.of(values[name])
            found[name] = found[name].with_more(new) if name in found else new
    return found


def _sound(site: NormSite) -> NormSite:
    if site.training:
        raise UnsupportedLayer("it is in training mode, where stored statistics aren't used")
    return site


def _renewed(subject: PassContext, site: NormSite, truth: ChannelStatistics) -> Edit:
    if truth.count < 2:
        return Edit(layer=site.name, action=ACTION, skipped="one value per channel has no variance")
    moved, spread = drift(site.norm, truth)
    write(subject, site, replace(site.norm, mean=truth.mean, var=truth.var))
    details = {"mean_off": float(moved.max()), "variance_off": float(spread.max()), "values": truth.count}
    return Edit(layer=site.name, action=ACTION, details=details)


def _depths(graph: ir.Graph, chosen: Iterable[ir.Node]) -> dict[ir.Node, int]:
    """How many of the chosen nodes lie on the longest way to each node, itself left out."""
    counted = set(chosen)
    depths: dict[ir.Node, int] = {}
    below: dict[ir.Value, int] = {}
    for node in graph:
        depths[node] = max((below.get(value, 0) for value in inputs_and_captures(node)), default=0)
        below |= dict.fromkeys(node.outputs, depths[node] + (node in counted))
    return depths


def _part(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy that gives these tensors and does no more than that needs."""
    part = copy(model)
    values = {value.name: value for node in part.graph for value in node.outputs}
    part.graph.outputs[:] = [values[name] for name in names]
    RemoveUnusedNodesPass()(part)
    for value in part.graph.outputs:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return part
