"""Weights from one graph into another that has layers of the same form, under whatever names.

A part is a layer (Conv, ConvTranspose, Gemm, MatMul), read as such, so that Gemm and MatMul or a transposed
weight make no difference; or any other node with stored floating-point tensors, by its operator. What is
matched how is `modelsurgeon.graft`'s; this is reading and writing.

Growing a head: its rows are the classes. Old classes keep their rows bit for bit, so their answers stay what
they were up to the rounding of a wider product; a bias that stands in an Add behind a MatMul grows along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.edits import Edit
from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.graft import Growth, Part, Rows, fitted, grown, origins, overlapped, pair
from modelsurgeon.layer import Array, Layer
from modelsurgeon.onnx.names import layer_names, nodes_of
from modelsurgeon.onnx.operators import LINEAR, weight_place
from modelsurgeon.onnx.passes.opened import forget_shapes
from modelsurgeon.onnx.passes.subject import Subject
from modelsurgeon.onnx.sites import OnnxSite, editable, sites
from modelsurgeon.onnx.weights import constant, root

ACTION = "steal"
SETTINGS = frozenset(
    {"Clip", "Constant", "Pad", "Resize", "Slice", "Upsample"}
)  # their constants are no weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Stock:
    """The parts of one model. weights: by part name, by slot."""

    parts: Sequence[Part]
    weights: Mapping[str, Mapping[str, Array]]
    layers: Mapping[str, OnnxSite]
    nodes: Mapping[str, ir.Node]
    fixed: Mapping[str, str]


def stock(model: ir.Model) -> Stock:
    """What stands in an editable model."""
    found, skipped = sites(model)
    names = layer_names(model)
    # A recurrent node holds more weights than its layer: it is taken as any other node.
    layers = {site.name: site for site in found if site.nodes[0].op_type in LINEAR}
    linear = {names[node] for node in nodes_of(model) if node.op_type in LINEAR}
    nodes = {names[node]: node for node in model.graph if names[node] not in layers}
    weights: dict[str, Mapping[str, Array]] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    for node in model.graph:
        name = names[node]
        if name in layers:
            layer = layers[name].layer
            weights[name] = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
            source = root(node.inputs[weight_place(node)])
            aliases[name] = (str(source.name),) if source is not None else ()
        elif (node.op_type not in LINEAR or node.domain) and (tensors := _tensors(node)):
            weights[name] = tensors
            aliases[name] = tuple(str(node.inputs[int(place)].name) for place in tensors)  # type: ignore[union-attr]
    kinds = {names[node]: _kind(layers.get(names[node]), node) for node in model.graph}
    parts = [
        Part(name=name, kind=kinds[name], shapes={s: a.shape for s, a in held.items()}, aliases=aliases[name])
        for name, held in weights.items()
    ]
    fixed = {edit.layer: str(edit.skipped) for edit in skipped if edit.layer in linear}
    return Stock(parts=parts, weights=weights, layers=layers, nodes=nodes, fixed=fixed)


def _tensors(node: ir.Node) -> dict[str, Array]:
    """Stored floating-point weights among a node's inputs, by their place."""
    if node.op_type in SETTINGS:
        return {}
    found = {str(place): constant(value) for place, value in enumerate(node.inputs) if value is not None}
    return {place: array for place, array in found.items() if array is not None and _is_weight(array)}


def _is_weight(array: Array) -> bool:
    return array.dtype.kind == "f" and array.size > 1


def _kind(site: OnnxSite | None, node: ir.Node) -> str:
    if site is None:
        return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    layer = site.layer
    if not layer.kernel:
        return "fully connected layer"
    depthwise = layer.groups == layer.in_channels > 1
    groups = "" if depthwise or layer.groups == 1 else f" of {layer.groups} groups"
    words = ["depthwise"] * depthwise + ["transposed"] * layer.transposed
    return " ".join([*words, f"{len(layer.kernel)}-d convolution{groups}"])


def steal(
    subject: Subject,
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
    ours, theirs = stock(subject.model), stock(editable(donor))
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
        edits.append(_grow(subject, ours.layers[name], theirs, pairing.donors.get(name), growth))
    edits += [Edit(layer=name, action=ACTION, skipped=reason) for name, reason in ours.fixed.items()]
    return edits


def taken_whole(model: ir.Model, edits: Sequence[Edit]) -> list[str]:
    """Names of the weights, in the edited model, of layers that were taken as they are."""
    whole = {edit.layer for edit in edits if edit.action == ACTION and edit.skipped is None}
    names = layer_names(model)
    sources = (root(value) for node in model.graph if names[node] in whole for value in node.inputs)
    found = (value for value in sources if value is not None and value.is_initializer())
    floats = (
        str(value.name) for value in found if value.dtype is not None and value.dtype.is_floating_point()
    )
    return list(dict.fromkeys(floats))


def _why_no_donor(part: Part, donors: Sequence[Part]) -> str:
    if not any(donor.kind == part.kind for donor in donors):
        return f"the donor has no {part.kind} with weights"
    return "no layer of the donor that is left has its name or, in this order, its shapes"


def _take(subject: Subject, ours: Stock, name: str, theirs: Mapping[str, Array], partial: bool) -> str:
    """Put the donor's arrays in; the action that it was."""
    mine = ours.weights[name]
    new: dict[str, Array] = {}
    for slot, array in mine.items():
        if slot not in theirs:
            raise UnsupportedLayer(f"the donor's layer has no {_told(slot)}")
        if theirs[slot].shape != array.shape and not partial:
            sizes = f"its {_told(slot)} is {array.shape}, the donor's {theirs[slot].shape}"
            raise UnsupportedLayer(f"{sizes}; --partial takes what overlaps")
        new[slot] = overlapped(theirs[slot], array).astype(array.dtype)
    _give(subject, ours, name, new)
    whole = all(theirs[slot].shape == array.shape for slot, array in mine.items())
    return ACTION if whole else "steal the overlap"


def _told(slot: str) -> str:
    return f"input {slot}" if slot.isdigit() else slot


def _give(subject: Subject, ours: Stock, name: str, new: Mapping[str, Array]) -> None:
    if name in ours.layers:
        site = ours.layers[name]
        site.replace([replace(site.layer, weight=new["weight"], bias=new.get("bias"))])
        return
    node = ours.nodes[name]
    for slot, array in new.items():
        old = node.inputs[int(slot)]
        node.replace_input_with(int(slot), subject.store(f"{'' if old is None else old.name}.stolen", array))


def _grow(subject: Subject, site: OnnxSite, theirs: Stock, source: str | None, growth: Growth) -> Edit:
    """A head with as many rows as asked for, the donor's first or where the labels say."""
    size, action = growth.sizes[site.name], "grow"
    details = {"donor": source, "classes": size, "new_rows": growth.init}
    if source is None or source not in theirs.layers:
        raise BadPlan(f"no layer of the donor belongs to {site.name!r}: name one in a map (--map)")
    donor, own = theirs.layers[source].layer, site.layer
    if donor.weight.shape[1:] != own.weight.shape[1:]:
        raise BadPlan(
            f"{site.name!r} takes {own.weight.shape[1:]}, {source!r} of the donor {donor.weight.shape[1:]}: "
            "only a head with the same inputs grows"
        )
    rows = origins(size, donor.out_channels, growth.labels, growth.init)
    weight = grown(donor.weight, rows, growth.init, growth.seed)
    bias = None if donor.bias is None else grown(donor.bias, rows, growth.init, growth.seed + 1)
    layer = replace(own, weight=weight.astype(own.weight.dtype), bias=bias)
    layer = _fit(subject, site, layer, rows, growth) if growth.init == "fit" else layer
    behind = _bias_behind(site)
    site.replace([layer])
    _grow_bias(subject, behind, theirs, source, rows, growth)
    forget_shapes(subject.model)
    return Edit(layer=site.name, action=action, details=details)


def _fit(subject: Subject, site: OnnxSite, layer: Layer, rows: Rows, growth: Growth) -> Layer:
    if growth.means is None or layer.kernel:
        raise BadPlan("new rows are fitted to the mean features of labelled data (--data): give some")
    data = site.nodes[0].inputs[0]
    means = growth.means(subject.model, "" if data is None else str(data.name), len(rows))
    weight, bias = fitted(layer.weight, layer.bias, rows, means)
    return replace(layer, weight=weight, bias=bias)


def _bias_behind(site: OnnxSite) -> ir.Node | None:
    """The Add that holds the bias of a MatMul."""
    users = [node for node, _ in site.nodes[0].outputs[0].uses()]
    one = len(users) == 1 and users[0].op_type == "Add" and site.layer.bias is None
    return users[0] if one and _tensors(users[0]) else None


def _grow_bias(
    subject: Subject, add: ir.Node | None, theirs: Stock, source: str, rows: Rows, growth: Growth
) -> None:
    if add is None:
        return
    donor = _bias_behind(theirs.layers[source])
    [(place, own)] = _tensors(add).items()
    old = own if donor is None else next(iter(_tensors(donor).values()))
    new = grown(old.reshape(-1), rows, growth.init, growth.seed + 1).astype(own.dtype)
    add.replace_input_with(int(place), subject.store("grown.bias", np.ascontiguousarray(new)))
