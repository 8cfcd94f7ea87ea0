"""Cross-layer equalization: equal weight ranges on both sides of a channel, the same outputs.

After a layer a channel may be divided by s > 0 if the layers that take it multiply it by s, wherever all
nodes between are positively homogeneous (see `channel_components`). Per-tensor integers and float16 then lose
least where both sides have the same range. With r1 the largest weight of the layers that produce a channel
and r2 the largest of those that take it,

    s = sqrt(r1 * r2) / r2,    after which both are sqrt(r1 * r2).

The layers are balanced in turn until the factors converge. Exact up to rounding.
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
    UNKNOWN_CHANNELS_REASON,
    ChannelComponents,
    ChannelShift,
    ComponentLink,
    channel_components,
)
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

ACTION = "equalize"
MAX_SWEEPS = 20
MIN_CHANGE = 1e-2  # of the logarithm of a factor: sweeps end where none changes more
MAX_SCALE = 1e4  # of a factor: a channel with tiny weights mustn't blow up its bias
Vector = NDArray[np.float64]


def equalize(context: PassContext) -> list[Edit]:
    """Scale the channels between layers so that weight ranges on both sides are equal."""
    names = context.names
    found, fixed = sites(context.model, ValueShapes.of(context.model, context.measured))
    graph = channel_components(context, [site for site in found if context.skip_reason(site.name) is None])
    for site in found:
        site.taken.update(context.taken)
    factors = _balanced_factors(graph)
    for shift in graph.shifts:
        _rescale_shift(context, shift, factors)
    linked = {link.site.name: link for link in graph.links}
    edits = [Edit(layer=edit.layer, action=ACTION, skipped=edit.skipped) for edit in fixed]
    for site in found:
        if reason := context.skip_reason(site.name):
            edits.append(Edit(layer=site.name, action=ACTION, skipped=reason))
        elif site.name in linked:
            edits.append(_scale_layer(linked[site.name], graph, factors))
        else:
            edits.append(Edit(layer=site.name, action=ACTION, skipped=UNKNOWN_CHANNELS_REASON))
    order = {name: place for place, name in enumerate(names.values())}
    return sorted(edits, key=lambda edit: order.get(edit.layer, len(order)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranges:
    """The largest absolute weight for every pair of channels, `(groups, out / groups, in / groups)`."""

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

    def output_ranges(self, factors: Vector) -> Vector:
        """The range of every output channel under the factors, `(out,)`."""
        into = factors[self.link.x].astype(np.float32).reshape(len(self.largest), 1, -1)
        return np.asarray((self.largest * into).max(axis=2).ravel() / factors[self.link.y])

    def input_ranges(self, factors: Vector) -> Vector:
        """The range of every input channel under the factors, `(in,)`."""
        out = factors[self.link.y].astype(np.float32).reshape(len(self.largest), -1, 1)
        return np.asarray((self.largest / out).max(axis=1).ravel() * factors[self.link.x])


def _balanced_factors(graph: ChannelComponents) -> Vector:
    """The factor by which the channels of every component are divided, `(count,)`."""
    factors, free = np.ones(graph.count), graph.is_free()
    ranges = [_Ranges.of(link) for link in graph.links]
    groups = [(r.link.y, *_producers_and_consumers(r, ranges)) for r in ranges if free[r.link.y].any()]
    for _ in range(MAX_SWEEPS):
        changes = [_balance_step(factors, free, *group) for group in groups]
        if max(changes, default=0.0) < MIN_CHANGE:
            break
    return factors


def _producers_and_consumers(this: _Ranges, ranges: Sequence[_Ranges]) -> tuple[list[_Ranges], list[_Ranges]]:
    """The links that produce, and those that take, a channel of a component that this link produces."""
    own = this.components[1]
    producers = [other for other in ranges if own & other.components[1]]
    return producers, [other for other in ranges if own & other.components[0]]


def _balance_step(
    factors: Vector,
    free: NDArray[np.bool_],
    at: Array,
    producers: Sequence[_Ranges],
    consumers: Sequence[_Ranges],
) -> float:
    """Balance the components at one link's outputs; the largest change of a factor's logarithm."""
    out_range, in_range = np.zeros(len(factors)), np.zeros(len(factors))
    for producer in producers:
        np.maximum.at(out_range, producer.link.y, producer.output_ranges(factors))
    for consumer in consumers:
        np.maximum.at(in_range, consumer.link.x, consumer.input_ranges(factors))
    at = np.unique(at)
    at = at[free[at] & (out_range[at] > 0) & (in_range[at] > 0)]
    before = factors[at]
    factors[at] = np.clip(before * np.sqrt(out_range[at] / in_range[at]), 1 / MAX_SCALE, MAX_SCALE)
    return float(np.abs(np.log(factors[at] / before)).max(initial=0.0))


def _scale_layer(link: ComponentLink, graph: ChannelComponents, factors: Vector) -> Edit:
    """Scale a layer by the factors of its components; its edit, skipped where all are 1."""
    x, y = factors[link.x], factors[link.y]
    if (x == 1).all() and (y == 1).all():
        reason = next(
            (graph.pinned[c] for c in link.y.tolist() if c in graph.pinned), "its ranges are equal already"
        )
        return Edit(layer=link.site.name, action=ACTION, skipped=f"after it: {reason}")
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
    """The layer for inputs divided by x, `(in,)`, with outputs divided by y, `(out,)`."""
    kernel = (1,) * len(layer.kernel)
    into = np.repeat(x.reshape(layer.groups, 1, -1), layer.out_channels // layer.groups, axis=1)
    factor = into.reshape(layer.weight.shape[:2]) / y[:, None]
    weight = (layer.weight * factor.reshape(*factor.shape, *kernel)).astype(layer.weight.dtype)
    bias = None if layer.bias is None else (layer.bias / y).astype(layer.bias.dtype)
    return replace(layer, weight=weight, bias=bias)


def spread(layer: Layer) -> float:
    """The largest range of an output channel divided by the smallest that isn't zero; 1 for zero weights."""
    ranges = np.abs(layer.weight.astype(np.float64)).reshape(layer.out_channels, -1).max(axis=1)
    return float(ranges.max() / ranges[ranges > 0].min()) if ranges.any() else 1.0


def int8_sqnr(layer: Layer) -> float | None:
    """Signal-to-quantization-noise ratio in dB of weights in 8 bits, symmetric, one scale per tensor.

    The mean over output channels of noise / signal, so channels with a small range count in full. None where
    there is no noise.
    """
    weight = layer.weight.astype(np.float64).reshape(layer.out_channels, -1)
    signal = (weight**2).sum(axis=1)
    step = np.abs(weight).max() / 127 or 1.0
    noise = ((np.round(weight / step) * step - weight) ** 2).sum(axis=1)
    ratio = float((noise[signal > 0] / signal[signal > 0]).mean()) if noise.any() else 0.0
    return -10 * float(np.log10(ratio)) if ratio else None


def _rescale_shift(context: PassContext, shift: ChannelShift, factors: Vector) -> None:
    """Divide a constant that is added to channels by their factors."""
    value = shift.node.inputs[shift.place]
    array, by = constant_array(value), factors[shift.at]
    if value is not None and array is not None and (by != 1).any():
        divided = (array / by.reshape(-1, *(1,) * shift.trailing)).astype(array.dtype)
        shift.node.replace_input_with(shift.place, context.store(f"{value.name}.equalized", divided))
