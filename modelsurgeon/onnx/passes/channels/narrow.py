"""Layers with fewer channels: what could be narrower with them, and making it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape

import numpy as np

from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers.sites import AbsorbedNorm, OnnxSite, ValueShapes, sites
from modelsurgeon.onnx.passes.batchnorm.absorb import absorbable_norms
from modelsurgeon.onnx.passes.channels.components import ChannelComponents, ComponentLink, channel_components
from modelsurgeon.onnx.passes.channels.op_rules import EACH_BY_ITSELF
from modelsurgeon.onnx.passes.channels.prune import all_pinned, is_depthwise, prune
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Call, ChannelProducers


def channel_producers(
    subject: PassContext, found: Sequence[OnnxSite], behind: Mapping[str, AbsorbedNorm] | None = None
) -> dict[str, ChannelProducers]:
    """For each layer that is a matrix on its channels, what makes them for it alone; by the layer's name.

    behind: the norms behind layers by name, which become narrower with them.
    Layers are left out whose channels are also taken elsewhere, seen from outside, or made by halves.
    """
    graph = channel_components(subject, found, tied=is_depthwise, rules=EACH_BY_ITSELF)
    pinned = np.zeros(graph.count, bool)
    pinned[list(all_pinned(subject, graph))] = True
    takers = [link for link in graph.links if not is_depthwise(link.site)]
    taken, made = _counted(graph, [link.x for link in takers]), _counted(graph, [k.y for k in graph.links])
    by_first: dict[int, list[ComponentLink]] = {}
    for link in graph.links:
        by_first.setdefault(int(link.y.min()), []).append(link)
    result = {}
    for link in takers:
        own = np.unique(link.x)
        feeding = [each for each in by_first.get(int(own[0]), ()) if np.array_equal(np.unique(each.y), own)]
        alone = len(own) == len(link.x) and (taken[own] == 1).all() and (made[own] == len(feeding)).all()
        if feeding and alone and not pinned[own].any() and link.site.layer.is_matrix:
            result[link.site.name] = _makers(feeding, behind or {})
    return result


def _counted(graph: ChannelComponents, sides: Sequence[np.ndarray]) -> np.ndarray:
    """For every component, in how many of the sides it is."""
    count = np.zeros(graph.count, np.intp)
    for side in sides:
        count[np.unique(side)] += 1
    return count


def _makers(feeding: Sequence[ComponentLink], behind: Mapping[str, AbsorbedNorm]) -> ChannelProducers:
    made = [(link.site, link.site.layer) for link in feeding]
    return ChannelProducers(
        layers=tuple(site.name for site, _ in made),
        macs=sum(macs([layer], site.calls) / layer.out_channels for site, layer in made),
        params=sum(_params(site, layer, behind) / layer.out_channels for site, layer in made),
    )


def _params(site: OnnxSite, layer: Layer, behind: Mapping[str, AbsorbedNorm]) -> int:
    """Those of a layer and of the norm behind it."""
    return layer.params + (behind[site.name].params if site.name in behind else 0)


def remove_channels(subject: PassContext, cut: Mapping[str, ChannelProducers]) -> list[FactorizationEdit]:
    """Drop the channels that layers take with weights of zero alone; an edit for each that made them.

    cut: the layers that take fewer channels now, and what makes those.
    """
    names = {name for each, feeding in cut.items() for name in (each, *feeding.layers)}
    globs = [glob for name in sorted(names) for glob in (escape(name), f"{escape(name)}.*")]
    found, _ = sites(subject.model, ValueShapes.of(subject.model, subject.measured))
    calls, before = {site.name: site.calls for site in found}, _held(subject, found)
    done = prune(PassContext(model=subject.model, only=globs, given=subject.given, dims=subject.dims))
    after = _held(PassContext(model=subject.model), sites(subject.model)[0])
    return [
        _edit(edit.layer, calls[edit.layer], before[edit.layer], after[edit.layer])
        for edit in done
        if edit.skipped is None and edit.layer not in cut
    ]


def _held(subject: PassContext, found: Sequence[OnnxSite]) -> dict[str, tuple[Layer, int]]:
    """Every layer, and the params of it and of the norm behind it."""
    behind = absorbable_norms(subject, found)
    layers = [(site, site.layer) for site in found]
    return {site.name: (layer, _params(site, layer, behind)) for site, layer in layers}


def _edit(
    name: str, calls: Sequence[Call], was: tuple[Layer, int], now: tuple[Layer, int]
) -> FactorizationEdit:
    return FactorizationEdit(
        layer=name,
        action="narrow",
        macs_before=macs([was[0]], calls),
        macs_after=macs([now[0]], calls),
        params_before=was[1],
        params_after=now[1],
    )
