"""Weights from one graph into another that has layers of the same form, under whatever names.

What is matched how is `modelsurgeon.graft`'s, how it is read and written `weighted_parts`'s, and how heads
grow on the way `grow`'s; this goes through the layers. New weights have the names of those that they stand
for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.matching.head_rows import Growth, copy_overlap
from modelsurgeon.matching.pairing import WeightedPart, pair
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.steal.grow import grow
from modelsurgeon.onnx.passes.steal.parts import WeightedParts, weighted_parts, write
from modelsurgeon.surgery.edits import Edit

ACTION = "steal"


def steal(
    subject: PassContext,
    donor: ir.Model,
    *,
    given: Mapping[str, str] | None = None,
    partial: bool = False,
    growth: Growth | None = None,
) -> list[Edit]:
    """Give the subject the weights of the donor's layers that match, an edit per layer with weights.

    given: subject's layer -> donor's layer. partial: where sizes differ, take the block that both have.
    Raises BadPlan for layers that neither has, or labels that don't fit.
    """
    growth = growth or Growth()
    ours, theirs = weighted_parts(subject.model), weighted_parts(editable_copy(donor))
    before = _names_of_weights(subject.model)
    for site in ours.layers.values():
        site.taken.update(subject.taken)
    if odd := [name for name in growth.sizes if name not in ours.layers]:
        raise BadPlan(f"there is no layer {odd[0]!r} to grow in the recipient; `info` prints the names")
    pairing = pair(theirs.parts, ours.parts, given)
    edits = []
    for part in ours.parts:
        source = pairing.donors.get(part.name)
        details = {"donor": source, "by": pairing.how.get(part.name)}
        try:
            if reason := subject.left_out(part.name):
                raise UnsupportedLayer(reason)
            if source is None:
                raise UnsupportedLayer(_why_no_donor(part, theirs.parts))
            if part.name in growth.sizes:
                continue
            action = _take(subject, ours, part.name, theirs.weights[source], partial)
            edits.append(Edit(layer=part.name, action=action, details=details))
        except UnsupportedLayer as reason:
            edits.append(Edit(layer=part.name, action=ACTION, details=details, skipped=str(reason)))
    for name in growth.sizes:
        edits.append(grow(subject, ours.layers[name], theirs, pairing.donors.get(name), growth))
    edits += [Edit(layer=name, action=ACTION, skipped=reason) for name, reason in ours.fixed.items()]
    _call_as_before(subject.model, before)
    return edits


def taken_whole(model: ir.Model, edits: Sequence[Edit]) -> list[str]:
    """Names of the weights, in the edited model, of layers that were taken as they are."""
    whole = {edit.layer for edit in edits if edit.action == ACTION and edit.skipped is None}
    names = layer_names(model)
    sources = (stored_source(value) for node in model.graph if names[node] in whole for value in node.inputs)
    found = (value for value in sources if value is not None and value.is_initializer())
    floats = (
        str(value.name) for value in found if value.dtype is not None and value.dtype.is_floating_point()
    )
    return list(dict.fromkeys(floats))


def _why_no_donor(part: WeightedPart, donors: Sequence[WeightedPart]) -> str:
    if not any(donor.kind == part.kind for donor in donors):
        return f"the donor has no {part.kind} with weights"
    return "no layer of the donor that is left has its name or, in this order, its shapes"


def _take(
    subject: PassContext, ours: WeightedParts, name: str, theirs: Mapping[str, Array], partial: bool
) -> str:
    """Put the donor's arrays in; the action that it was."""
    mine = ours.weights[name]
    new: dict[str, Array] = {}
    for slot, array in mine.items():
        if slot not in theirs:
            raise UnsupportedLayer(f"the donor's layer has no {_slot_name(slot)}")
        if theirs[slot].shape != array.shape and not partial:
            sizes = f"its {_slot_name(slot)} is {array.shape}, the donor's {theirs[slot].shape}"
            raise UnsupportedLayer(f"{sizes}; --partial takes what overlaps")
        new[slot] = copy_overlap(theirs[slot], array).astype(array.dtype)
    _give(subject, ours, name, new)
    whole = all(theirs[slot].shape == array.shape for slot, array in mine.items())
    return ACTION if whole else "steal the overlap"


def _slot_name(slot: str) -> str:
    return f"input {slot}" if slot.isdigit() else slot


def _give(subject: PassContext, ours: WeightedParts, name: str, new: Mapping[str, Array]) -> None:
    if name in ours.layers:
        site = ours.layers[name]
        write(subject, site, replace(site.layer, weight=new["weight"], bias=new.get("bias")))
        return
    node = ours.nodes[name]
    for slot, array in new.items():
        node.replace_input_with(int(slot), subject.store(f"{name}.{slot}", array))


def _names_of_weights(model: ir.Model) -> dict[str, list[str | None]]:
    """Per node what its stored inputs are called."""
    names = layer_names(model)
    return {
        names[node]: [
            value.name if value is not None and value.is_initializer() else None for value in node.inputs
        ]
        for node in model.graph
    }


def _call_as_before(model: ir.Model, before: Mapping[str, Sequence[str | None]]) -> None:
    """Let new weights have the names of those that they stand for, which go."""
    RemoveUnusedNodesPass()(model)
    names = layer_names(model)
    for node in model.graph:
        for value, wish in zip(node.inputs, before.get(names[node], ()), strict=False):
            if value is not None and value.is_initializer() and wish and wish not in model.graph.initializers:
                value.name = wish
