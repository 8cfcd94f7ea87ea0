"""Copy weights from one graph into another with layers of the same form, under any names.

Parts are paired by `modelsurgeon.matching.pairing`, read and written by `steal.parts`; `steal.grow` adds
classes to heads. New weights take over the names of those that they replace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
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
from modelsurgeon.onnx.passes.steal.grow import Head, ShapesByName, grow
from modelsurgeon.onnx.passes.steal.parts import WeightedParts, weighted_parts, write_layer
from modelsurgeon.surgery.edits import Edit

ACTION = "steal"


def steal(
    context: PassContext,
    donor: ir.Model,
    *,
    given: Mapping[str, str] | None = None,
    partial: bool = False,
    growth: Growth | None = None,
) -> list[Edit]:
    """Copy the weights of the donor's matching layers into the model; an edit for every layer with weights.

    given: the model's layer -> the donor's layer. partial: where sizes differ, copy the block that both have.
    growth: heads to grow. Raises BadPlan for unknown layers, and for labels that don't fit.
    """
    growth = growth or Growth()
    ours, theirs = weighted_parts(context.model), weighted_parts(editable_copy(donor))
    before = _weight_names(context.model)
    for site in ours.layers.values():
        site.taken.update(context.taken)
    if fixed := [name for name in growth.sizes if name in ours.fixed]:
        raise BadPlan(f"{fixed[0]!r} can't be grown: {ours.fixed[fixed[0]]}")
    if unknown := [name for name in growth.sizes if name not in ours.layers]:
        raise BadPlan(f"there is no layer {unknown[0]!r} to grow in the recipient; `info` prints the names")
    pairing = pair(theirs.parts, ours.parts, given)
    edits = []
    for part in ours.parts:
        source = pairing.donors.get(part.name)
        details = {"donor": source, "by": pairing.how.get(part.name)}
        try:
            if reason := context.skip_reason(part.name):
                raise UnsupportedLayer(reason)
            if source is None:
                raise UnsupportedLayer(_why_no_donor(part, theirs.parts))
            if part.name in growth.sizes:
                continue
            action = _copy_weights(context, ours, part.name, theirs.weights[source], partial)
            edits.append(Edit(layer=part.name, action=action, details=details))
        except UnsupportedLayer as reason:
            edits.append(Edit(layer=part.name, action=ACTION, details=details, skipped=str(reason)))
    expected: ShapesByName = {}
    for name in growth.sizes:
        head = Head(site=ours.layers[name], theirs=theirs, donors=pairing.donors)
        edits.append(grow(context, head, growth, expected))
    edits += [Edit(layer=name, action=ACTION, skipped=reason) for name, reason in ours.fixed.items()]
    _restore_weight_names(context.model, before)
    return edits


def fully_copied(model: ir.Model, edits: Sequence[Edit]) -> list[str]:
    """Names of the weights, in the edited model, of layers whose weights were all copied unchanged."""
    copied = {edit.layer for edit in edits if edit.action == ACTION and edit.skipped is None}
    names = layer_names(model)
    sources = (stored_source(value) for node in model.graph if names[node] in copied for value in node.inputs)
    found = (value for value in sources if value is not None and value.is_initializer())
    floats = (
        str(value.name) for value in found if value.dtype is not None and value.dtype.is_floating_point()
    )
    return list(dict.fromkeys(floats))


def _why_no_donor(part: WeightedPart, donors: Sequence[WeightedPart]) -> str:
    if not any(donor.kind == part.kind for donor in donors):
        return f"the donor has no {part.kind} with weights"
    return "no layer of the donor that is left has its name or, in this order, its shapes"


def _copy_weights(
    context: PassContext, ours: WeightedParts, name: str, theirs: Mapping[str, Array], partial: bool
) -> str:
    """Copy the donor's arrays into a part; the action for its edit."""
    mine = ours.weights[name]
    new: dict[str, Array] = {}
    for slot, array in mine.items():
        if slot not in theirs:
            raise UnsupportedLayer(f"the donor's layer has no {_slot_name(slot)}")
        if theirs[slot].shape != array.shape and not partial:
            sizes = f"its {_slot_name(slot)} is {array.shape}, the donor's {theirs[slot].shape}"
            raise UnsupportedLayer(f"{sizes}; --partial takes what overlaps")
        new[slot] = _overlap(theirs[slot], array, slot)
    _write_weights(context, ours, name, new)
    whole = all(theirs[slot].shape == array.shape for slot, array in mine.items())
    return ACTION if whole else "steal the overlap"


def _overlap(theirs: Array, mine: Array, slot: str) -> Array:
    """The part's own array with the donor's in it. Raises UnsupportedLayer where NaN or infinity comes in."""
    with np.errstate(over="ignore"):
        made: Array = copy_overlap(theirs, mine).astype(mine.dtype)
    if (np.isfinite(mine) & ~np.isfinite(made)).any():
        if not np.isfinite(theirs).all():
            raise UnsupportedLayer(f"the donor's {_slot_name(slot)} holds NaN or infinite numbers")
        largest = float(np.abs(theirs).max())
        raise UnsupportedLayer(
            f"the donor's {_slot_name(slot)} reaches {largest:.3g}, which is more than {mine.dtype} holds"
        )
    return made


def _slot_name(slot: str) -> str:
    return f"input {slot}" if slot.isdigit() else slot


def _write_weights(context: PassContext, ours: WeightedParts, name: str, new: Mapping[str, Array]) -> None:
    if name in ours.layers:
        site = ours.layers[name]
        write_layer(context, site, replace(site.layer, weight=new["weight"], bias=new.get("bias")))
        return
    node = ours.nodes[name]
    for slot, array in new.items():
        node.replace_input_with(int(slot), context.store(f"{name}.{slot}", array))


def _weight_names(model: ir.Model) -> dict[str, list[str | None]]:
    """The names of every node's stored inputs, by node; None for other inputs."""
    names = layer_names(model)
    return {
        names[node]: [
            value.name if value is not None and value.is_initializer() else None for value in node.inputs
        ]
        for node in model.graph
    }


def _restore_weight_names(model: ir.Model, before: Mapping[str, Sequence[str | None]]) -> None:
    """Rename new weights to the ones that they replaced, after removing those."""
    RemoveUnusedNodesPass()(model)
    names = layer_names(model)
    for node in model.graph:
        for value, name in zip(node.inputs, before.get(names[node], ()), strict=False):
            if value is not None and value.is_initializer() and name and name not in model.graph.initializers:
                value.name = name
