"""What is wrong with the batch norms of a graph, and what is mended in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import NormFinding, findings, repair
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, end_training, norms, read, write
from modelsurgeon.onnx.passes.batchnorm.statistics import in_order, populations
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

DEFAULT_MOMENTUM = 0.9


def inspect(subject: PassContext) -> dict[str, list[NormFinding]]:
    """The findings for every batch norm by its name; with samples, how far its statistics are from theirs."""
    found: dict[str, list[NormFinding]] = {}
    sites: list[NormSite] = []
    for node in norms(subject.model):
        try:
            sites.append(read(subject, node))
            found[sites[-1].name] = []
        except UnsupportedLayer as reason:
            found[subject.names[node]] = [NormFinding(rule="unreadable", message=str(reason))]
    truths = populations(subject, sites, subject.batches) if subject.batches and sites else {}
    for site in sites:
        truth = truths.get(str(site.x.name))
        found[site.name] = findings(site.norm, training=site.training, momentum=site.momentum, truth=truth)
    return found


def sanitize(subject: PassContext) -> list[Edit]:
    """Mend every batch norm; with samples, in order: what is broken before a norm hides the truth there."""
    edits: dict[str, Edit] = {}
    sites: list[NormSite] = []
    ended: set[ir.Node] = set()
    for node in norms(subject.model):
        try:
            sites.append(read(subject, node))
        except UnsupportedLayer as reason:
            edits[subject.names[node]] = _edit(subject.names[node], skipped=str(reason))
    for site in sites:
        if site.training and not any(v.uses() or v.is_graph_output() for v in site.node.outputs[1:]):
            end_training(subject, site)
            ended.add(site.node)
    for site, truth in _with_truth(subject, sites):
        done = ["training mode ended"] if site.node in ended else []
        edits[site.name] = _mended(subject, site, truth, done)
    return [edits[name] for name in subject.names.values() if name in edits]


def _with_truth(
    subject: PassContext, sites: Sequence[NormSite]
) -> Iterator[tuple[NormSite, ChannelStatistics | None]]:
    if subject.batches is None:
        yield from ((site, None) for site in sites)
    else:
        yield from in_order(subject, sites, subject.batches)


def _mended(subject: PassContext, site: NormSite, truth: ChannelStatistics | None, done: list[str]) -> Edit:
    norm, repaired = repair(site.norm, truth)
    sound = 0 <= site.momentum <= 1
    done = [*done, *repaired] + ([] if sound else [f"momentum set to {DEFAULT_MOMENTUM:g}"])
    if not done:
        return _edit(site.name, skipped="nothing is wrong with it")
    write(subject, site, norm, **({} if sound else {"momentum": DEFAULT_MOMENTUM}))
    return Edit(layer=site.name, action="sanitize", details={"repairs": "; ".join(done)})


def _edit(layer: str, skipped: str) -> Edit:
    return Edit(layer=layer, action="sanitize", skipped=skipped)
