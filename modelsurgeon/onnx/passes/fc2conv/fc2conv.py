"""Fully connected layers as convolutions, so that a classifier accepts larger inputs.

A map of C channels and H x W positions that is flattened and multiplied with a matrix (K, C * H * W) is a
convolution whose kernel covers the whole map:

    y[k] = sum over c, i, j of  w[k, (c * H + i) * W + j] * x[c, i, j]

Its weight is the same array, reshaped to (K, C, H, W); or to (K, H, W, C), transposed, where channels were
flattened last. Nodes on the vector of K numbers then work on a map of K channels: further fully connected
layers as 1 x 1 convolutions, non-linearities as they are, softmax over the channels. Where H and W of the
inputs are then made dynamic, a larger input gives a map of scores, one for every position at which the kernel
fits.

A layer after a mean over the whole map moves before it, since both are linear and the mean keeps constants:
fc(mean(x)) = mean(conv1x1(x)). The output stays a vector, now the mean of a map of scores.

Nodes that need the flat form get it from a Flatten. Source: Sermanet et al., OverFeat (2014); Long,
Shelhamer, Darrell, Fully convolutional networks (2015); for means, Lin, Chen, Yan, Network in network (2014).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import weight_input_index
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import open_inputs
from modelsurgeon.onnx.passes.op_predicates import (
    BINARY,
    FULLY_CONNECTED,
    NORMALIZING,
    UNARY,
    dims,
    is_flatten,
    is_global_mean,
    is_identity,
    opset,
)
from modelsurgeon.surgery.edits import Edit

ACTION = "to convolution"

Maps = dict[ir.Value | None, ir.Value | None]  # a flat value -> the map that replaces it


@dataclass(frozen=True, kw_only=True)
class MapForm:
    """The map that a flat value was flattened from. size: (channels, *spatial).

    last: whether channels were flattened last. source: the map, where the graph already has it.
    """

    size: tuple[int, ...]
    last: bool = False
    source: ir.Value | None = None

    @property
    def is_point(self) -> bool:
        """Whether the map has one position."""
        return prod(self.size[1:]) == 1


@dataclass(frozen=True, kw_only=True)
class MapStep:
    """A node on flat values that can work on maps. before: the form of its data; after: of its output."""

    node: ir.Node
    before: MapForm | None
    after: MapForm


@dataclass(frozen=True, kw_only=True, eq=False)
class MapRegion:
    """Flat values with the form of their maps, and the nodes between them in file order."""

    context: PassContext
    forms: dict[ir.Value, MapForm] = field(default_factory=dict)
    steps: list[MapStep] = field(default_factory=list)

    def add(self, node: ir.Node, after: MapForm) -> None:
        """Add a node whose output has this form."""
        before = next((form for value in node.inputs if (form := self.form(value))), None)
        self.steps.append(MapStep(node=node, before=before, after=after))
        self.forms[node.outputs[0]] = after

    def form(self, value: ir.Value | None) -> MapForm | None:
        """The form of a value's map; None where it has none."""
        return None if value is None else self.forms.get(value)


def fc2conv(context: PassContext) -> list[Edit]:
    """Turn fully connected layers into convolutions, and make the spatial sizes of their inputs dynamic."""
    region = MapRegion(context=context)
    edits = []
    for node in list(context.graph):
        if not node.domain and node.op_type in FULLY_CONNECTED:
            edits.append(_convert_layer(region, node))
        elif (form := _output_form(region, node)) is not None:
            region.add(node, form)
    return edits + open_inputs(context, _rewrite_steps(context, _needed_steps(region.steps)))


def _convert_layer(region: MapRegion, node: ir.Node) -> Edit:
    """Add the layer to the region or move it before a mean; its edit, with the reason where neither works."""
    context, name = region.context, region.context.names[node]
    try:
        if reason := context.skip_reason(name):
            raise UnsupportedLayer(reason)
        if weight_input_index(node) == 0:
            raise UnsupportedLayer("its weight is on the left of its data")
        layer = operators.read(node, None)
        form = region.form(node.inputs[0])
        if form is None:
            return _move_before_mean(context, node, layer, name)
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=ACTION, skipped=str(reason))
    region.add(node, MapForm(size=(layer.out_channels, *(1 for _ in form.size[1:]))))
    return Edit(layer=name, action=ACTION, details={"kernel": list(form.size[1:])})


def _output_form(region: MapRegion, node: ir.Node) -> MapForm | None:
    """The form of the node's output; None where it needs the flat form, or its input is no flattened map."""
    if node.domain or not node.inputs or not node.outputs:
        return None
    if is_flatten(region.context, node):
        return _source_form(region.context, node.inputs[0])
    form = region.form(node.inputs[0])
    if form is not None and (node.op_type in UNARY or is_identity(region.context, node)):
        return MapForm(size=form.size, last=form.last)
    if form is not None and form.is_point and _works_along_channels(region.context, node):
        return MapForm(size=form.size)
    return _combined_form(region, node) if node.op_type in BINARY else None


def _source_form(context: PassContext, value: ir.Value | None, last: bool = False) -> MapForm | None:
    """The form of a map, found through identities and one Transpose of the channels to the end."""
    sizes = dims(context, value)
    node = None if value is None else value.producer()
    if value is None or sizes is None or None in sizes[1:]:
        return None
    if node is not None and is_global_mean(context, node):
        return None  # the layer moves before the mean
    if node is not None and is_identity(context, node):
        return _source_form(context, node.inputs[0], last)
    channels_last = [0, *range(2, len(sizes)), 1]
    if node is not None and not last and list(node.attributes.get_ints("perm", ())) == channels_last:
        return _source_form(context, node.inputs[0], last=True)
    return MapForm(size=tuple(n for n in sizes[1:] if n is not None), last=last, source=value)


def _works_along_channels(context: PassContext, node: ir.Node) -> bool:
    if node.op_type == "BatchNormalization":
        return True
    axis = node.attributes.get_int("axis", -1 if opset(context) >= 13 else 1)
    return node.op_type in NORMALIZING and axis in (1, -1)


def _combined_form(region: MapRegion, node: ir.Node) -> MapForm | None:
    """The form of a binary node on values of one form, or with constants, scalar or one per channel."""
    forms = [form for value in node.inputs if (form := region.form(value)) is not None]
    if "broadcast" in node.attributes or not forms:
        return None
    if any((form.size, form.last) != (forms[0].size, forms[0].last) for form in forms):
        return None
    for value in node.inputs:
        array = None if region.form(value) is not None else constant_array(value)
        fits = array is None or array.size == 1 or (forms[0].is_point and array.shape[-1] == array.size)
        if (array is None and region.form(value) is None) or not fits:
            return None
    return MapForm(size=forms[0].size, last=forms[0].last)


def _needed_steps(steps: list[MapStep]) -> list[MapStep]:
    """The steps before or after a fully connected layer."""
    after: set[ir.Value | None] = set()
    for step in steps:
        if step.node.op_type in FULLY_CONNECTED or after & set(step.node.inputs):
            after.update(step.node.outputs)
    kept = set()
    before: set[ir.Value | None] = set()
    for step in reversed(steps):
        if (after | before) & set(step.node.outputs):
            kept.add(step.node)
            before.update(step.node.inputs)
    return [step for step in steps if step.node in kept]


def _rewrite_steps(context: PassContext, steps: list[MapStep]) -> list[ir.Value]:
    """Make the steps work on maps, flattened for all other users; the maps that the region starts from."""
    maps: Maps = {}
    new_nodes: list[ir.Node] = []
    for step in steps:
        node = step.node
        if step.after.source is not None:
            maps[node.outputs[0]] = step.after.source
        elif node.op_type not in (*BINARY, *UNARY, *FULLY_CONNECTED, *NORMALIZING, "BatchNormalization"):
            maps[node.outputs[0]] = maps.get(node.inputs[0], node.inputs[0])
        else:
            new_nodes += _nodes_on_maps(context, step, maps)
    for node in new_nodes:
        for value in node.outputs:
            _flatten_for_others(context, node, value, set(new_nodes))
    return [step.after.source for step in steps if step.after.source is not None]


def _nodes_on_maps(context: PassContext, step: MapStep, maps: Maps) -> list[ir.Node]:
    """The nodes that compute on maps what the step computed on vectors."""
    node, name = step.node, context.names[step.node]
    for place, value in enumerate(node.inputs):
        node.replace_input_with(place, maps.get(value, value))
    x = node.inputs[0]
    if node.op_type in FULLY_CONNECTED and step.before is not None and x is not None:
        layer = operators.read(node, None)
        new = [_conv_node(context, name, layer, _conv_weight(layer.weight, step.before), x)]
    elif node.op_type in NORMALIZING and x is not None:
        new = _softmax_nodes(context, node, name, x, len(step.after.size) + 1)
    else:
        _add_spatial_axes(context, node, len(step.after.size) - 1)
        return [node]
    context.replace(node, new)
    return new


def _conv_weight(weight: Array, form: MapForm) -> Array:
    """(K, C * H * W) as (K, C, H, W)."""
    if form.last:
        return np.moveaxis(weight.reshape(-1, *form.size[1:], form.size[0]), -1, 1)
    return weight.reshape(-1, *form.size)


def _conv_node(context: PassContext, name: str, layer: Layer, weight: Array, x: ir.Value) -> ir.Node:
    inputs = [x, context.store(f"{name}.weight", weight)]
    if layer.bias is not None:
        inputs.append(context.store(f"{name}.bias", layer.bias))
    return ir.node("Conv", inputs, {"kernel_shape": weight.shape[2:]})


def _softmax_nodes(context: PassContext, node: ir.Node, name: str, x: ir.Value, ndim: int) -> list[ir.Node]:
    """Softmax over the channels; before opset 13 it needs them on the last axis."""
    if opset(context) >= 13:
        return [ir.node(node.op_type, [x], {"axis": 1})]
    last = ir.node("Transpose", [x], {"perm": [0, *range(2, ndim), 1]}, name=f"{name}.last")
    soft = ir.node(node.op_type, [last.outputs[0]], {"axis": ndim - 1}, name=name)
    first = {"perm": [0, ndim - 1, *range(1, ndim - 1)]}
    return [last, soft, ir.node("Transpose", [soft.outputs[0]], first, name=f"{name}.first")]


def _add_spatial_axes(context: PassContext, node: ir.Node, axes: int) -> None:
    """Reshape an elementwise node's constants, one number per channel, to broadcast over positions."""
    for place, value in enumerate(node.inputs):
        array = constant_array(value) if node.op_type in BINARY else None
        if value is not None and array is not None and array.size > 1:
            reshaped = context.store(f"{value.name}.spread", array.reshape(-1, *(1,) * axes))
            node.replace_input_with(place, reshaped)


def _flatten_for_others(
    context: PassContext, node: ir.Node, value: ir.Value, new_nodes: set[ir.Node]
) -> None:
    """Insert a Flatten after a map for the users that don't work on maps."""
    others = [(user, place) for user, place in value.uses() if user not in new_nodes]
    if not others:
        return
    flat = ir.node("Flatten", [value], {"axis": 1})
    flat.name = flat.outputs[0].name = free_name(f"{value.name}.flat", context.taken)
    context.graph.insert_after(node, flat)
    for user, place in others:
        user.replace_input_with(place, flat.outputs[0])


def _move_before_mean(context: PassContext, node: ir.Node, layer: Layer, name: str) -> Edit:
    """Replace fc(mean(x)) by mean(conv1x1(x)). Raises UnsupportedLayer where there is no such mean."""
    x = _averaged_map(context, node.inputs[0])
    sizes, vector = dims(context, x), dims(context, node.inputs[0])
    if x is None or sizes is None or vector is None or len(vector) != 2:
        raise UnsupportedLayer(_why_no_map(context, node.inputs[0]))
    kernel = (1,) * (len(sizes) - 2)
    conv = _conv_node(context, name, layer, layer.weight.reshape(*layer.weight.shape, *kernel), x)
    conv.name = name
    mean = ir.node("GlobalAveragePool", [conv.outputs[0]], name=f"{name}.mean")
    context.replace(
        node, [conv, mean, ir.node("Flatten", [mean.outputs[0]], {"axis": 1}, name=f"{name}.flat")]
    )
    return Edit(layer=name, action="to convolution before the mean", details={"kernel": list(kernel)})


def _averaged_map(context: PassContext, value: ir.Value | None) -> ir.Value | None:
    """The map of which `value`, a vector, is the mean over all positions; None where it is no mean."""
    node = None if value is None else value.producer()
    if node is None or node.domain or not node.inputs:
        return None
    if is_global_mean(context, node):
        return node.inputs[0]
    plain = node.op_type in ("Identity", "Dropout") or is_flatten(context, node) or is_identity(context, node)
    return _averaged_map(context, node.inputs[0]) if plain else None


def _why_no_map(context: PassContext, data: ir.Value | None) -> str:
    node = None if data is None else data.producer()
    before = dims(context, node.inputs[0]) if node is not None and node.inputs else None
    if node is not None and node.op_type in ("Flatten", "Reshape") and before and None in before[1:]:
        return "the map that is flattened for it has an open size: fix the inputs with --shape"
    return "its input is no flattened map"
