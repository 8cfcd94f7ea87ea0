"""Remove channels that change no output: dead ones, duplicates, and unused ones.

A constant channel adds a constant to the outputs of the layer that takes it, which is moved into its bias. Of
equal channels only the first is kept, with the sum of their weights:

    w1 * x + w2 * x = (w1 + w2) * x

Channels that are then taken with zero weights only, or not at all, needn't be computed, and neither need the
channels that only they depend on. Channels that a residual sum, a concatenation or a Flatten ties together
(`channel_components`) are removed together or not at all. Equal channels are found by `value_numbering`.
Exact up to the rounding of sums of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.layers import Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.sites import OnnxSite, ValueShapes, sites
from modelsurgeon.onnx.passes.channels.components import (
    UNKNOWN_CHANNELS_REASON,
    ChannelComponents,
    ComponentLink,
    channel_components,
)
from modelsurgeon.onnx.passes.channels.op_rules import CHANNELWISE, channel_axis
from modelsurgeon.onnx.passes.channels.value_numbering import (
    ChannelNumbers,
    Index,
    first_with_number,
    merge_inputs,
    number_channels,
)
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import forget_shapes
from modelsurgeon.surgery.edits import Edit

ACTION = "prune"
NEEDED_REASON = "each of its channels is needed"
Mask = NDArray[np.bool_]


def prune(context: PassContext) -> list[Edit]:
    """Remove the channels that no output of the model depends on; an edit for every layer."""
    names = context.names
    found, fixed = sites(context.model, ValueShapes.of(context.model, context.measured))
    chosen = [site for site in found if context.skip_reason(site.name) is None]
    graph = channel_components(context, chosen, tied=maps_channels_one_to_one, rules=CHANNELWISE)
    numbers, pinned = number_channels(context, graph, chosen), all_pinned(context, graph)
    prunable = {link.site.name: _PrunableLayer.of(link, numbers, graph) for link in graph.links}
    kept = _kept_components(graph, list(prunable.values()), pinned)
    edits = {edit.layer: Edit(layer=edit.layer, action=ACTION, skipped=edit.skipped) for edit in fixed}
    for site in found:
        reason = context.skip_reason(site.name) or UNKNOWN_CHANNELS_REASON
        edits[site.name] = Edit(layer=site.name, action=ACTION, skipped=reason)
    users = _layers_of_live_channels(prunable.values())
    edits |= {name: _prune_edit(candidate, pinned, kept, users) for name, candidate in prunable.items()}
    _narrow_nodes_between(context, graph, kept)
    for name, candidate in prunable.items():
        if edits[name].skipped is None:
            candidate.link.site.taken.update(context.taken)
            candidate.link.site.replace([candidate.narrowed(kept)])
    if any(edit.skipped is None for edit in edits.values()):
        forget_shapes(context.model)
    return [edits[name] for name in names.values() if name in edits]


def maps_channels_one_to_one(site: OnnxSite) -> bool:
    """Whether each output channel depends on the input channel of its own number alone."""
    layer = site.layer
    return layer.groups == layer.in_channels == layer.out_channels


@dataclass(frozen=True, kw_only=True, eq=False)
class _PrunableLayer:
    """A layer whose channels may be removed, with the channel numbers of its outputs.

    layer: with the weights of equal inputs added up on the first of them. uses: `(out, in / groups)`, whether
    an output depends on an input. output_numbers: `(out,)`. constants: channel number -> value.
    """

    link: ComponentLink
    layer: Layer
    uses: Mask
    output_numbers: Index
    constants: Mapping[int, float]

    @classmethod
    def of(cls, link: ComponentLink, numbers: ChannelNumbers, graph: ChannelComponents) -> _PrunableLayer:
        layer, nodes = link.site.layer, link.site.nodes
        if layer.groups == 1 and graph.off_axis.isdisjoint(nodes):
            layer = _with_merged_inputs(
                layer, _joint_numbers(numbers, [node.inputs[0] for node in nodes]), numbers.constants
            )
        return cls(
            link=link,
            layer=layer,
            uses=np.asarray(layer.weight.reshape(*layer.weight.shape[:2], -1).any(axis=2)),
            output_numbers=_joint_numbers(numbers, [node.outputs[0] for node in nodes]),
            constants=numbers.constants,
        )

    @property
    def is_constant(self) -> Mask:
        """Whether an output has one value everywhere, `(out,)`."""
        return np.array([int(number) in self.constants for number in self.output_numbers])

    def needs(self, kept: Mask) -> Index:
        """The components that its kept outputs depend on."""
        if self.layer.groups > 1:
            return self.link.y[:0]  # its inputs are tied to its outputs
        return self.link.x[self.uses[kept[self.link.y]].any(axis=0)]

    def narrowed(self, kept: Mask) -> Layer:
        """The layer without the removed channels."""
        layer, rows = self.layer, kept[self.link.y]
        weight = layer.weight[rows] if layer.groups > 1 else layer.weight[rows][:, kept[self.link.x]]
        bias = None if layer.bias is None else layer.bias[rows]
        return replace(layer, weight=weight, bias=bias, groups=len(weight) if layer.groups > 1 else 1)


def _joint_numbers(numbers: ChannelNumbers, values: Sequence[ir.Value | None]) -> Index:
    """One number per channel for all uses of a layer: equal for channels that are equal in every use."""
    several = np.stack([numbers.of[value] for value in values if value is not None])
    joint = -1 - np.unique(several, axis=1, return_inverse=True)[1].ravel()
    return np.where((several == several[0]).all(axis=0), several[0], joint).astype(np.intp)


def _with_merged_inputs(layer: Layer, ids: Index, constants: Mapping[int, float]) -> Layer:
    weight, shift = merge_inputs(layer, layer.weight, ids, constants)
    if not shift.any():
        return replace(layer, weight=weight)
    bias = shift if layer.bias is None else layer.bias + shift
    return replace(layer, weight=weight, bias=bias.astype(weight.dtype))


def all_pinned(context: PassContext, graph: ChannelComponents) -> dict[int, str]:
    """The components that can't be removed, with the reason; also of layers and shapes that can't shrink."""
    pinned = dict(graph.pinned)
    for link in graph.links:
        if link.site.layer.groups > 1 and not maps_channels_one_to_one(link.site):
            reason = f"{link.site.name} has {link.site.layer.groups} groups"
            pinned |= dict.fromkeys([*link.x.tolist(), *link.y.tolist()], reason)
    for node in graph.channel_preserving:
        if _needs_shape(context, node):
            reason = f"the {node.op_type} after it depends on its exact shape"
            pinned = dict.fromkeys(graph.at[node.outputs[0]].tolist(), reason) | pinned
    return pinned


def _needs_shape(context: PassContext, node: ir.Node) -> bool:
    """Whether a node depends on the exact shape: a computed target, or a Squeeze of any axes of size 1."""
    if node.op_type == "Squeeze":
        return "axes" not in node.attributes and len(node.inputs) < 2
    fixed = "shape" in node.attributes or constant_array(node.inputs[-1]) is not None
    return node.op_type == "Reshape" and context.ndim(node.outputs[0]) != 2 and not fixed


def _kept_components(
    graph: ChannelComponents, prunable: Sequence[_PrunableLayer], pinned: Mapping[int, str]
) -> Mask:
    """For every component, whether an output depends on it; every layer keeps a channel on both sides."""
    kept = np.zeros(graph.count, bool)
    kept[list(pinned)] = True
    before = -1
    while before < (before := int(kept.sum())):
        for candidate in reversed(prunable):
            kept[candidate.needs(kept)] = True
            for side in (candidate.link.y, candidate.link.x):
                kept[side[:1]] |= not kept[side].any()
    return kept


def _prune_edit(
    candidate: _PrunableLayer, pinned: Mapping[int, str], kept: Mask, users: Mapping[int, Sequence[str]]
) -> Edit:
    """The edit of a layer, or the reason why it was skipped."""
    name, rows, columns = candidate.link.site.name, kept[candidate.link.y], kept[candidate.link.x]
    dead = candidate.is_constant
    double = (first_with_number(candidate.output_numbers) != np.arange(len(rows))) & ~dead
    if rows.all() and columns.all():
        reason = _why_all_stay(candidate, pinned, dead, double, users)
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


def _layers_of_live_channels(layers: Iterable[_PrunableLayer]) -> Mapping[int, Sequence[str]]:
    """The names of the layers that have no constant in a channel, by component."""
    found: dict[int, list[str]] = {}
    for layer in layers:
        for component in np.unique(layer.link.y[~layer.is_constant]).tolist():
            found.setdefault(component, []).append(layer.link.site.name)
    return found


def _why_all_stay(
    candidate: _PrunableLayer,
    pinned: Mapping[int, str],
    dead: Mask,
    double: Mask,
    users: Mapping[int, Sequence[str]],
) -> str:
    """The reason why a layer keeps all its channels, those that are dead or double among them."""
    found = candidate.link.y[dead | double].tolist()
    if not found:
        return NEEDED_REASON
    reasons = [pinned[component] for component in found if component in pinned]
    own = candidate.link.site.name
    shared = [name for component in found for name in users.get(component, ()) if name != own]
    if not reasons and shared:
        reasons = [f"{shared[0]!r} shares them and needs them"]
    elif not reasons and dead.any():
        reasons = ["what takes them pads with zeros, and they aren't 0 there"]
    last = reasons[0] if reasons else "what takes them treats them differently"
    return f"{len(found)} of its channels are dead or double, but {last}"


def _narrow_nodes_between(context: PassContext, graph: ChannelComponents, kept: Mask) -> None:
    """Narrow the constants and target shapes of the nodes between layers to the kept channels."""
    for node in graph.channel_preserving:
        stays = kept[graph.at[node.outputs[0]]]
        if stays.all():
            continue
        if node.op_type == "Reshape":
            _reshape_to(context, node, int(stays.sum()))
            continue
        for place, value in enumerate(node.inputs):
            array = constant_array(value) if value is not None and value not in graph.at else None
            axis = (
                None if array is None else channel_axis(node, array, *graph.place(context, node.outputs[0]))
            )
            if value is not None and array is not None and axis is not None:
                part = context.store(f"{value.name}.pruned", np.compress(stays, array, axis))
                node.replace_input_with(place, part)


def _reshape_to(context: PassContext, node: ir.Node, count: int) -> None:
    """Set the target of a Reshape to this number of channels."""
    node.attributes.pop("allowzero", None)  # 0 then copies the size of the input
    if context.ndim(node.outputs[0]) == 2:
        target = [0, -1]
    else:
        held = node.attributes.get_ints("shape", ()) or constant_array(node.inputs[1])
        target = [int(n) for n in held] if held is not None else []
        target[1] = count if target[1] > 0 else target[1]
    if "shape" in node.attributes:
        node.attributes.add(ir.AttrInt64s("shape", target))
    else:
        node.replace_input_with(1, context.store("pruned.shape", np.array(target, np.int64)))
