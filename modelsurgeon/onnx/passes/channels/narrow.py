"""Layers with fewer input channels: the layers that produce those, and their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape

import numpy as np

from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers.sites import AbsorbedNorm, OnnxSite, ValueShapes, sites
from modelsurgeon.onnx.passes.batchnorm.absorb import absorbable_norms
from modelsurgeon.onnx.passes.channels.components import ChannelComponents, ComponentLink, channel_components
from modelsurgeon.onnx.passes.channels.op_rules import CHANNELWISE
from modelsurgeon.onnx.passes.channels.prune import all_pinned, maps_channels_one_to_one, prune
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Call, ChannelProducers


def channel_producers(
    context: PassContext, found: Sequence[OnnxSite], norms: Mapping[str, AbsorbedNorm] | None = None
) -> dict[str, ChannelProducers]:
    """The producers of the input channels of every layer that is a matrix on channels; by the layer's name.

    norms: the norms after layers by the layer's name, which become narrower with them.
    Left out are layers whose channels have other consumers or producers, or reach an input or output of the
    model.
    """
    graph = channel_components(context, found, tied=maps_channels_one_to_one, rules=CHANNELWISE)
    pinned = np.zeros(graph.count, bool)
    pinned[list(all_pinned(context, graph))] = True
    consumers = [link for link in graph.links if not maps_channels_one_to_one(link.site)]
    consumed, produced = (
        _component_counts(graph, [link.x for link in consumers]),
        _component_counts(graph, [link.y for link in graph.links]),
    )
    by_first: dict[int, list[ComponentLink]] = {}
    for link in graph.links:
        by_first.setdefault(int(link.y.min()), []).append(link)
    result = {}
    for link in consumers:
        own = np.unique(link.x)
        producers = [p for p in by_first.get(int(own[0]), ()) if np.array_equal(np.unique(p.y), own)]
        alone = (
            len(own) == len(link.x) and (consumed[own] == 1).all() and (produced[own] == len(producers)).all()
        )
        if producers and alone and not pinned[own].any() and link.site.layer.is_matrix:
            result[link.site.name] = _producers(producers, norms or {})
    return result


def _component_counts(graph: ChannelComponents, sides: Sequence[np.ndarray]) -> np.ndarray:
    """For every component the number of sides, arrays of components, that it is in, `(count,)`."""
    count = np.zeros(graph.count, np.intp)
    for side in sides:
        count[np.unique(side)] += 1
    return count


def _producers(links: Sequence[ComponentLink], norms: Mapping[str, AbsorbedNorm]) -> ChannelProducers:
    layers = [(link.site, link.site.layer) for link in links]
    return ChannelProducers(
        layers=tuple(site.name for site, _ in layers),
        macs=sum(macs([layer], site.calls) / layer.out_channels for site, layer in layers),
        params=sum(_params_with_norm(site, layer, norms) / layer.out_channels for site, layer in layers),
    )


def _params_with_norm(site: OnnxSite, layer: Layer, norms: Mapping[str, AbsorbedNorm]) -> int:
    """Params of a layer and of the norm after it."""
    return layer.params + (norms[site.name].params if site.name in norms else 0)


def remove_channels(context: PassContext, cut: Mapping[str, ChannelProducers]) -> list[FactorizationEdit]:
    """Remove channels that layers take with zero weights only; an edit for every layer that produced some.

    cut: the names of the layers that take fewer channels now, and the producers of those channels.
    """
    names = {name for layer, producers in cut.items() for name in (layer, *producers.layers)}
    globs = [glob for name in sorted(names) for glob in (escape(name), f"{escape(name)}.*")]
    found, _ = sites(context.model, ValueShapes.of(context.model, context.measured))
    calls, before = {site.name: site.calls for site in found}, _layers_and_params(context, found)
    done = prune(PassContext(model=context.model, only=globs, given=context.given, dims=context.dims))
    after = _layers_and_params(PassContext(model=context.model), sites(context.model)[0])
    return [
        _narrow_edit(edit.layer, calls[edit.layer], before[edit.layer], after[edit.layer])
        for edit in done
        if edit.skipped is None and edit.layer not in cut
    ]


def _layers_and_params(context: PassContext, found: Sequence[OnnxSite]) -> dict[str, tuple[Layer, int]]:
    """Every layer with its params and those of the norm after it, by name."""
    norms = absorbable_norms(context, found)
    layers = [(site, site.layer) for site in found]
    return {site.name: (layer, _params_with_norm(site, layer, norms)) for site, layer in layers}


def _narrow_edit(
    name: str, calls: Sequence[Call], before: tuple[Layer, int], after: tuple[Layer, int]
) -> FactorizationEdit:
    return FactorizationEdit(
        layer=name,
        action="narrow",
        macs_before=macs([before[0]], calls),
        macs_after=macs([after[0]], calls),
        params_before=before[1],
        params_after=after[1],
    )
