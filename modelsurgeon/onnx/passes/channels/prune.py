"""Channels that change no answer go: dead ones, duplicates, and those that nothing takes.

A channel that is one number everywhere adds one number to whatever takes it, which its bias takes over; 0
adds nothing at all. Of channels that are alike the first one stands for all, with the sum of their weights:

    w1 * x + w2 * x = (w1 + w2) * x

What is then taken with weights of zero alone, or not at all, needn't be computed, and neither need what it
was computed from. Channels that a residual sum, a concatenation or a Flatten ties together
(`channel_components`) go together or not at all. Which are alike is `numbering`'s. Exact up to the rounding
of sums of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.layers import Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.sites import OnnxSite, ValueShapes, sites
from modelsurgeon.onnx.passes.channels.components import ChannelComponents, ComponentLink, channel_components
from modelsurgeon.onnx.passes.channels.op_rules import EACH_BY_ITSELF, channel_axis
from modelsurgeon.onnx.passes.channels.value_numbering import ChannelNumbers, Index, first_of, folded, number
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import forget_shapes
from modelsurgeon.surgery.edits import Edit

ACTION = "prune"
NEEDED_REASON = "each of its channels is needed"
NO_CHANNELS = "its channels aren't where its operator has them, or their number is open"
Mask = NDArray[np.bool_]


def prune(subject: PassContext) -> list[Edit]:
    """Remove the channels that no answer depends on; an edit for every layer."""
    names = subject.names
    found, fixed = sites(subject.model, ValueShapes.of(subject.model, subject.measured))
    chosen = [site for site in found if subject.left_out(site.name) is None]
    graph = channel_components(subject, chosen, tied=is_depthwise, rules=EACH_BY_ITSELF)
    numbers, pinned = number(subject, graph, chosen), all_pinned(subject, graph)
    takers = {link.site.name: _Taker.of(link, numbers, graph) for link in graph.links}
    kept = _kept(graph, list(takers.values()), pinned)
    edits = {edit.layer: Edit(layer=edit.layer, action=ACTION, skipped=edit.skipped) for edit in fixed}
    for site in found:
        reason = subject.left_out(site.name) or NO_CHANNELS
        edits[site.name] = Edit(layer=site.name, action=ACTION, skipped=reason)
    edits |= {name: _edit(taker, pinned, kept) for name, taker in takers.items()}
    _narrow(subject, graph, kept)
    for name, taker in takers.items():
        if edits[name].skipped is None:
            taker.link.site.taken.update(subject.taken)
            taker.link.site.replace([taker.narrowed(kept)])
    if any(edit.skipped is None for edit in edits.values()):
        forget_shapes(subject.model)
    return [edits[name] for name in names.values() if name in edits]


def is_depthwise(site: OnnxSite) -> bool:
    """Whether every output channel of the layer is made from one input channel of its own."""
    layer = site.layer
    return layer.groups == layer.in_channels == layer.out_channels


@dataclass(frozen=True, kw_only=True, eq=False)
class _Taker:
    """A layer that takes channels and makes others.

    layer: with the weights of inputs that are alike on the first of them. uses: `(out, in / groups)`, whether
    an output takes an input. made: the numbers of its outputs.
    """

    link: ComponentLink
    layer: Layer
    uses: Mask
    made: Index
    constants: Mapping[int, float]

    @classmethod
    def of(cls, link: ComponentLink, numbers: ChannelNumbers, graph: ChannelComponents) -> _Taker:
        layer, nodes = link.site.layer, link.site.nodes
        if layer.groups == 1 and graph.loose.isdisjoint(nodes):
            layer = _with_folded(
                layer, _joint(numbers, [node.inputs[0] for node in nodes]), numbers.constants
            )
        return cls(
            link=link,
            layer=layer,
            uses=np.asarray(layer.weight.reshape(*layer.weight.shape[:2], -1).any(axis=2)),
            made=_joint(numbers, [node.outputs[0] for node in nodes]),
            constants=numbers.constants,
        )

    def needs(self, kept: Mask) -> Index:
        """The components that its outputs, as far as they are kept, are made from."""
        if self.layer.groups > 1:
            return self.link.y[:0]  # its inputs are tied to its outputs
        return self.link.x[self.uses[kept[self.link.y]].any(axis=0)]

    def narrowed(self, kept: Mask) -> Layer:
        """The layer without the channels that go."""
        layer, rows = self.layer, kept[self.link.y]
        weight = layer.weight[rows] if layer.groups > 1 else layer.weight[rows][:, kept[self.link.x]]
        bias = None if layer.bias is None else layer.bias[rows]
        return replace(layer, weight=weight, bias=bias, groups=len(weight) if layer.groups > 1 else 1)


def _joint(numbers: ChannelNumbers, values: Sequence[ir.Value | None]) -> Index:
    """One number for every channel of values in one place: those of all uses of a layer, as one."""
    several = np.stack([numbers.of[value] for value in values if value is not None])
    joint = -1 - np.unique(several, axis=1, return_inverse=True)[1].ravel()
    return np.where((several == several[0]).all(axis=0), several[0], joint).astype(np.intp)


def _with_folded(layer: Layer, ids: Index, constants: Mapping[int, float]) -> Layer:
    weight, shift = folded(layer, layer.weight, ids, constants)
    if not shift.any():
        return replace(layer, weight=weight)
    bias = shift if layer.bias is None else layer.bias + shift
    return replace(layer, weight=weight, bias=bias.astype(weight.dtype))


def all_pinned(subject: PassContext, graph: ChannelComponents) -> dict[int, str]:
    """The components that stay, and why: also those of layers and shapes that can't be narrowed."""
    pinned = dict(graph.pinned)
    for link in graph.links:
        if link.site.layer.groups > 1 and not is_depthwise(link.site):
            reason = f"{link.site.name} has {link.site.layer.groups} groups"
            pinned |= dict.fromkeys([*link.x.tolist(), *link.y.tolist()], reason)
    for node in graph.handing:
        if _keeps_shape(subject, node):
            reason = f"the {node.op_type} behind it depends on its very shape"
            pinned = dict.fromkeys(graph.at[node.outputs[0]].tolist(), reason) | pinned
    return pinned


def _keeps_shape(subject: PassContext, node: ir.Node) -> bool:
    """Whether a node gives a shape that can't be written anew, or would take an only channel for nothing."""
    if node.op_type == "Squeeze":
        return "axes" not in node.attributes and len(node.inputs) < 2
    fixed = "shape" in node.attributes or constant_array(node.inputs[-1]) is not None
    return node.op_type == "Reshape" and subject.ndim(node.outputs[0]) != 2 and not fixed


def _kept(graph: ChannelComponents, takers: Sequence[_Taker], pinned: Mapping[int, str]) -> Mask:
    """Of every component, whether an answer depends on it; every layer keeps a channel on both sides."""
    kept = np.zeros(graph.count, bool)
    kept[list(pinned)] = True
    before = -1
    while before < (before := int(kept.sum())):
        for taker in reversed(takers):
            kept[taker.needs(kept)] = True
            for side in (taker.link.y, taker.link.x):
                kept[side[:1]] |= not kept[side].any()
    return kept


def _edit(taker: _Taker, pinned: Mapping[int, str], kept: Mask) -> Edit:
    """What becomes of a layer, or why nothing does."""
    name, rows, columns = taker.link.site.name, kept[taker.link.y], kept[taker.link.x]
    dead = np.array([int(n) in taker.constants for n in taker.made])
    double = (first_of(taker.made) != np.arange(len(rows))) & ~dead
    if rows.all() and columns.all():
        idle = [int(c) for c in taker.link.y[dead | double] if int(c) in pinned]
        reason = (
            f"{len(idle)} of its channels are dead or double, but {pinned[idle[0]]}"
            if idle
            else NEEDED_REASON
        )
        return Edit(layer=name, action=ACTION, skipped=reason)
    details = {
        "channels_before": len(rows),
        "channels_after": int(rows.sum()),
        "inputs_before": len(columns),
        "inputs_after": int(columns.sum()),
        "dead": int((dead & ~rows).sum()),
        "double": int((double & ~rows).sum()),
        "unused": int((~dead & ~double & ~rows).sum()),
    }
    return Edit(layer=name, action=ACTION, details=details)


def _narrow(subject: PassContext, graph: ChannelComponents, kept: Mask) -> None:
    """Let the nodes between layers work on the channels that are left."""
    for node in graph.handing:
        stays = kept[graph.at[node.outputs[0]]]
        if stays.all():
            continue
        if node.op_type == "Reshape":
            _reshape_to(subject, node, int(stays.sum()))
            continue
        for place, value in enumerate(node.inputs):
            array = constant_array(value) if value is not None and value not in graph.at else None
            axis = (
                None if array is None else channel_axis(node, array, *graph.place(subject, node.outputs[0]))
            )
            if value is not None and array is not None and axis is not None:
                part = subject.store(f"{value.name}.pruned", np.compress(stays, array, axis))
                node.replace_input_with(place, part)


def _reshape_to(subject: PassContext, node: ir.Node, count: int) -> None:
    """Give a Reshape a target with so many channels."""
    node.attributes.pop("allowzero", None)  # a 0 in it is the size that was there before
    if subject.ndim(node.outputs[0]) == 2:
        target = [0, -1]
    else:
        held = node.attributes.get_ints("shape", ()) or constant_array(node.inputs[1])
        target = [int(n) for n in held] if held is not None else []
        target[1] = count if target[1] > 0 else target[1]
    if "shape" in node.attributes:
        node.attributes.add(ir.AttrInt64s("shape", target))
    else:
        node.replace_input_with(1, subject.store("pruned.shape", np.array(target, np.int64)))
