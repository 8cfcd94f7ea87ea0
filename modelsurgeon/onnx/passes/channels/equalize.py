"""Cross-layer equalisation: the ranges of a layer's channels made alike, at no change of the answers.

Behind a layer a channel may be divided by s > 0 if what takes it multiplies it by s, wherever all that lies
between is positively homogeneous (see `channel_components`). Per-tensor integers and float16 then lose least
where both sides have the same range. With r1 the largest weight that makes a channel and r2 the largest that
takes it, over all layers that do,

    s = sqrt(r1 * r2) / r2,    after which both are sqrt(r1 * r2).

The layers are gone through in order until no factor moves. Exact up to rounding.
Source: Nagel, van Baalen, Blankevoort, Welling: Data-free quantization through weight equalization and bias
correction (2019), section 4.1, there for pairs of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.sites import ValueShapes, sites
from modelsurgeon.onnx.passes.channels.components import (
    ChannelComponents,
    ChannelShift,
    ComponentLink,
    channel_components,
)
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

ACTION = "equalize"
NO_CHANNELS = "its channels aren't where its operator has them, or their number is open"
MAX_SWEEPS = 20
MIN_CHANGE = 1e-2  # the largest logarithm of a factor that still moves
MAX_SCALE = 1e4  # factor: a channel that hardly weighs anything mustn't blow up its bias
Vector = NDArray[np.float64]


def equalize(subject: PassContext) -> list[Edit]:
    """Scale the channels between layers so that ranges on both sides are alike."""
    names = subject.names
    found, fixed = sites(subject.model, ValueShapes.of(subject.model, subject.measured))
    graph = channel_components(subject, [site for site in found if subject.left_out(site.name) is None])
    for site in found:
        site.taken.update(subject.taken)
    factors = _balanced(graph)
    for shift in graph.shifts:
        _rescale(subject, shift, factors)
    linked = {link.site.name: link for link in graph.links}
    edits = [Edit(layer=edit.layer, action=ACTION, skipped=edit.skipped) for edit in fixed]
    for site in found:
        if reason := subject.left_out(site.name):
            edits.append(Edit(layer=site.name, action=ACTION, skipped=reason))
        elif site.name in linked:
            edits.append(_scaled(linked[site.name], graph, factors))
        else:
            edits.append(Edit(layer=site.name, action=ACTION, skipped=NO_CHANNELS))
    order = {name: place for place, name in enumerate(names.values())}
    return sorted(edits, key=lambda edit: order.get(edit.layer, len(order)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranges:
    """The largest weight for every pair of channels of a link, `(groups, out / groups, in / groups)`."""

    link: ComponentLink
    largest: Array

    @classmethod
    def of(cls, link: ComponentLink) -> _Ranges:
        layer = link.site.layer
        weight = np.abs(layer.weight.astype(np.float32)).reshape(*layer.weight.shape[:2], -1).max(axis=2)
        return cls(link=link, largest=weight.reshape(layer.groups, -1, weight.shape[1]))

    @cached_property
    def components(self) -> tuple[set[int], set[int]]:
        return set(self.link.x.tolist()), set(self.link.y.tolist())

    def made(self, factors: Vector) -> Vector:
        """The range of every output channel."""
        into = factors[self.link.x].astype(np.float32).reshape(len(self.largest), 1, -1)
        return np.asarray((self.largest * into).max(axis=2).ravel() / factors[self.link.y])

    def taken(self, factors: Vector) -> Vector:
        """The range of every input channel."""
        out = factors[self.link.y].astype(np.float32).reshape(len(self.largest), -1, 1)
        return np.asarray((self.largest / out).max(axis=1).ravel() * factors[self.link.x])


def _balanced(graph: ChannelComponents) -> Vector:
    """The factor by which every component's channels are divided."""
    factors, free = np.ones(graph.count), graph.is_free()
    ranges = [_Ranges.of(link) for link in graph.links]
    groups = [(each.link.y, *_neighbours(each, ranges)) for each in ranges if free[each.link.y].any()]
    for _ in range(MAX_SWEEPS):
        moved = [_step(factors, free, *group) for group in groups]
        if max(moved, default=0.0) < MIN_CHANGE:
            break
    return factors


def _neighbours(each: _Ranges, ranges: Sequence[_Ranges]) -> tuple[list[_Ranges], list[_Ranges]]:
    """The links that make, and those that take, one of the channels that this link makes."""
    mine = each.components[1]
    made = [other for other in ranges if mine & other.components[1]]
    return made, [other for other in ranges if mine & other.components[0]]


def _step(
    factors: Vector, free: NDArray[np.bool_], at: Array, makers: Sequence[_Ranges], takers: Sequence[_Ranges]
) -> float:
    """Balance the components at one link's outputs; how far the largest factor moved, as a logarithm."""
    made, taken = np.zeros(len(factors)), np.zeros(len(factors))
    for each in makers:
        np.maximum.at(made, each.link.y, each.made(factors))
    for each in takers:
        np.maximum.at(taken, each.link.x, each.taken(factors))
    at = np.unique(at)
    at = at[free[at] & (made[at] > 0) & (taken[at] > 0)]
    before = factors[at]
    factors[at] = np.clip(before * np.sqrt(made[at] / taken[at]), 1 / MAX_SCALE, MAX_SCALE)
    return float(np.abs(np.log(factors[at] / before)).max(initial=0.0))


def _scaled(link: ComponentLink, graph: ChannelComponents, factors: Vector) -> Edit:
    """Give the layer its factors; the edit, or why there was nothing to do."""
    x, y = factors[link.x], factors[link.y]
    if (x == 1).all() and (y == 1).all():
        reason = next(
            (graph.pinned[c] for c in link.y.tolist() if c in graph.pinned), "its ranges are alike already"
        )
        return Edit(layer=link.site.name, action=ACTION, skipped=f"behind it: {reason}")
    before = link.site.layer
    after = rescaled(before, x, y)
    link.site.replace([after])
    details = {
        "spread_before": spread(before),
        "spread_after": spread(after),
        "int8_db_before": int8_sqnr(before),
        "int8_db_after": int8_sqnr(after),
    }
    return Edit(layer=link.site.name, action=ACTION, details=details)


def rescaled(layer: Layer, x: Vector, y: Vector) -> Layer:
    """The layer for inputs divided by x, with outputs divided by y: a number for every channel."""
    kernel = (1,) * len(layer.kernel)
    into = np.repeat(x.reshape(layer.groups, 1, -1), layer.out_channels // layer.groups, axis=1)
    factor = into.reshape(layer.weight.shape[:2]) / y[:, None]
    weight = (layer.weight * factor.reshape(*factor.shape, *kernel)).astype(layer.weight.dtype)
    bias = None if layer.bias is None else (layer.bias / y).astype(layer.bias.dtype)
    return replace(layer, weight=weight, bias=bias)


def spread(layer: Layer) -> float:
    """The largest range of an output channel over the smallest that isn't zero."""
    ranges = np.abs(layer.weight.astype(np.float64)).reshape(layer.out_channels, -1).max(axis=1)
    return float(ranges.max() / ranges[ranges > 0].min()) if ranges.any() else 1.0


def int8_sqnr(layer: Layer) -> float | None:
    """Signal to noise in dB of an output channel's weights, by the mean of noise over signal.

    In 8 bits, symmetric, one scale for all channels: those with a small range drown. None where there is no
    noise.
    """
    weight = layer.weight.astype(np.float64).reshape(layer.out_channels, -1)
    signal = (weight**2).sum(axis=1)
    step = np.abs(weight).max() / 127 or 1.0
    noise = ((np.round(weight / step) * step - weight) ** 2).sum(axis=1)
    ratio = float((noise[signal > 0] / signal[signal > 0]).mean()) if noise.any() else 0.0
    return -10 * float(np.log10(ratio)) if ratio else None


def _rescale(subject: PassContext, shift: ChannelShift, factors: Vector) -> None:
    """Divide a constant that is added to channels by their factors."""
    value = shift.node.inputs[shift.place]
    array, by = constant_array(value), factors[shift.at]
    if value is not None and array is not None and (by != 1).any():
        divided = (array / by.reshape(-1, *(1,) * shift.behind)).astype(array.dtype)
        shift.node.replace_input_with(shift.place, subject.store(f"{value.name}.equalized", divided))
