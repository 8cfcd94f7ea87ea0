"""Fully connected layers as convolutions, so that a classifier accepts larger inputs.

A map of C channels and H x W positions that is flattened and multiplied with a matrix (K, C * H * W) is a
convolution whose kernel covers the whole map:

    y[k] = sum over c, i, j of  w[k, (c * H + i) * W + j] * x[c, i, j]

Its weight is the same array, reshaped to (K, C, H, W); (K, H, W, C), turned, where channels were flattened
last. What follows on the vector of K numbers follows on a map of K channels: further fully connected layers
as 1 x 1 convolutions, non-linearities as they are, softmax along the channels. Where H and W of the inputs
are then opened, a larger input gives a map of scores, one for every place at which the kernel fits.

A layer behind a mean over the whole map moves in front of it, since both are linear and the mean keeps
constants: fc(mean(x)) = mean(conv1x1(x)). The output stays a vector; what is averaged is a map of scores.

What still needs the flat form gets it back from a Flatten. Source: Sermanet et al., OverFeat (2014); Long,
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
from modelsurgeon.onnx.graph.edit import free
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import weight_place
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import open_inputs
from modelsurgeon.onnx.passes.op_predicates import (
    BINARY,
    FULLY_CONNECTED,
    NORMALISING,
    UNARY,
    dims,
    is_flatten,
    is_global_mean,
    is_identity,
    opset,
)
from modelsurgeon.surgery.edits import Edit

ACTION = "to convolution"

Maps = dict[ir.Value | None, ir.Value | None]  # a flat value -> the map that stands for it now


@dataclass(frozen=True, kw_only=True)
class MapForm:
    """The map that stands behind a flat value. size: (channels, *spatial). last: channels come last in it.

    source: the map, where the graph has it already.
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
    """The flat values that maps stand behind, and the nodes between them in file order."""

    subject: PassContext
    forms: dict[ir.Value, MapForm] = field(default_factory=dict)
    steps: list[MapStep] = field(default_factory=list)

    def take(self, node: ir.Node, after: MapForm) -> None:
        """Add a node."""
        before = next((form for value in node.inputs if (form := self.form(value))), None)
        self.steps.append(MapStep(node=node, before=before, after=after))
        self.forms[node.outputs[0]] = after

    def form(self, value: ir.Value | None) -> MapForm | None:
        """The map behind a value; None where there is none."""
        return None if value is None else self.forms.get(value)


def fc2conv(subject: PassContext) -> list[Edit]:
    """Turn fully connected layers into convolutions, and open the sizes of the inputs that feed them."""
    region = MapRegion(subject=subject)
    edits = []
    for node in list(subject.graph):
        if not node.domain and node.op_type in FULLY_CONNECTED:
            edits.append(_layer(region, node))
        elif (form := _form(region, node)) is not None:
            region.take(node, form)
    return edits + open_inputs(subject, _rewrite(subject, _needed(region.steps)))


def _layer(region: MapRegion, node: ir.Node) -> Edit:
    """Take the layer into the region, or move it in front of a mean, or tell why not."""
    subject, name = region.subject, region.subject.names[node]
    try:
        if reason := subject.left_out(name):
            raise UnsupportedLayer(reason)
        if weight_place(node) == 0:
            raise UnsupportedLayer("its weight stands on the left of its data")
        layer = operators.read(node, None)
        form = region.form(node.inputs[0])
        if form is None:
            return _before_mean(subject, node, layer, name)
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=ACTION, skipped=str(reason))
    region.take(node, MapForm(size=(layer.out_channels, *(1 for _ in form.size[1:]))))
    return Edit(layer=name, action=ACTION, details={"kernel": list(form.size[1:])})


def _form(region: MapRegion, node: ir.Node) -> MapForm | None:
    """The map behind what the node gives; None where it needs the flat form, or isn't on one."""
    if node.domain or not node.inputs or not node.outputs:
        return None
    if is_flatten(region.subject, node):
        return _source(region.subject, node.inputs[0])
    form = region.form(node.inputs[0])
    if form is not None and (node.op_type in UNARY or is_identity(region.subject, node)):
        return MapForm(size=form.size, last=form.last)
    if form is not None and form.is_point and _along_channels(region.subject, node):
        return MapForm(size=form.size)
    return _combined(region, node) if node.op_type in BINARY else None


def _source(subject: PassContext, value: ir.Value | None, last: bool = False) -> MapForm | None:
    """The map itself, behind steps that change nothing and one that turns its channels to the end."""
    sizes = dims(subject, value)
    node = None if value is None else value.producer()
    if value is None or sizes is None or None in sizes[1:]:
        return None
    if node is not None and is_global_mean(subject, node):
        return None  # the layer goes in front of the mean
    if node is not None and is_identity(subject, node):
        return _source(subject, node.inputs[0], last)
    turned = [0, *range(2, len(sizes)), 1]
    if node is not None and not last and list(node.attributes.get_ints("perm", ())) == turned:
        return _source(subject, node.inputs[0], last=True)
    return MapForm(size=tuple(n for n in sizes[1:] if n is not None), last=last, source=value)


def _along_channels(subject: PassContext, node: ir.Node) -> bool:
    if node.op_type == "BatchNormalization":
        return True
    axis = node.attributes.get_int("axis", -1 if opset(subject) >= 13 else 1)
    return node.op_type in NORMALISING and axis in (1, -1)


def _combined(region: MapRegion, node: ir.Node) -> MapForm | None:
    """Values of one form with each other, or with constants that have one number, or one per channel."""
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


def _needed(steps: list[MapStep]) -> list[MapStep]:
    """The steps that lead to a layer, or away from one."""
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


def _rewrite(subject: PassContext, steps: list[MapStep]) -> list[ir.Value]:
    """Let the steps work on maps, and give the flat form to whatever else uses them; where maps begin."""
    maps: Maps = {}
    made: list[ir.Node] = []
    for step in steps:
        node = step.node
        if step.after.source is not None:
            maps[node.outputs[0]] = step.after.source
        elif node.op_type not in (*BINARY, *UNARY, *FULLY_CONNECTED, *NORMALISING, "BatchNormalization"):
            maps[node.outputs[0]] = maps.get(node.inputs[0], node.inputs[0])
        else:
            made += _on_maps(subject, step, maps)
    for node in made:
        for value in node.outputs:
            _flatten_for_others(subject, node, value, set(made))
    return [step.after.source for step in steps if step.after.source is not None]


def _on_maps(subject: PassContext, step: MapStep, maps: Maps) -> list[ir.Node]:
    """The nodes that do on maps what the step did on vectors."""
    node, name = step.node, subject.names[step.node]
    for place, value in enumerate(node.inputs):
        node.replace_input_with(place, maps.get(value, value))
    x = node.inputs[0]
    if node.op_type in FULLY_CONNECTED and step.before is not None and x is not None:
        layer = operators.read(node, None)
        new = [_conv(subject, name, layer, _kernel(layer.weight, step.before), x)]
    elif node.op_type in NORMALISING and x is not None:
        new = _softmax(subject, node, name, x, len(step.after.size) + 1)
    else:
        _spread(subject, node, len(step.after.size) - 1)
        return [node]
    subject.replace(node, new)
    return new


def _kernel(weight: Array, form: MapForm) -> Array:
    """(K, C * H * W) as (K, C, H, W)."""
    if form.last:
        return np.moveaxis(weight.reshape(-1, *form.size[1:], form.size[0]), -1, 1)
    return weight.reshape(-1, *form.size)


def _conv(subject: PassContext, name: str, layer: Layer, weight: Array, x: ir.Value) -> ir.Node:
    inputs = [x, subject.store(f"{name}.weight", weight)]
    if layer.bias is not None:
        inputs.append(subject.store(f"{name}.bias", layer.bias))
    return ir.node("Conv", inputs, {"kernel_shape": weight.shape[2:]})


def _softmax(subject: PassContext, node: ir.Node, name: str, x: ir.Value, rank: int) -> list[ir.Node]:
    """Along the channels. Before opset 13 it runs over all axes from one on, so channels go to the end."""
    if opset(subject) >= 13:
        return [ir.node(node.op_type, [x], {"axis": 1})]
    last = ir.node("Transpose", [x], {"perm": [0, *range(2, rank), 1]}, name=f"{name}.last")
    soft = ir.node(node.op_type, [last.outputs[0]], {"axis": rank - 1}, name=name)
    first = {"perm": [0, rank - 1, *range(1, rank - 1)]}
    return [last, soft, ir.node("Transpose", [soft.outputs[0]], first, name=f"{name}.first")]


def _spread(subject: PassContext, node: ir.Node, axes: int) -> None:
    """Give the constants of an elementwise node, one number per channel, the axes of a map."""
    for place, value in enumerate(node.inputs):
        array = constant_array(value) if node.op_type in BINARY else None
        if value is not None and array is not None and array.size > 1:
            spread = subject.store(f"{value.name}.spread", array.reshape(-1, *(1,) * axes))
            node.replace_input_with(place, spread)


def _flatten_for_others(subject: PassContext, node: ir.Node, value: ir.Value, made: set[ir.Node]) -> None:
    """A Flatten behind a map for the nodes that were not made to work on it."""
    others = [(user, place) for user, place in value.uses() if user not in made]
    if not others:
        return
    flat = ir.node("Flatten", [value], {"axis": 1})
    flat.name = flat.outputs[0].name = free(f"{value.name}.flat", subject.taken)
    subject.graph.insert_after(node, flat)
    for user, place in others:
        user.replace_input_with(place, flat.outputs[0])


def _before_mean(subject: PassContext, node: ir.Node, layer: Layer, name: str) -> Edit:
    """fc(mean(x)) as mean(conv1x1(x)); UnsupportedLayer where no mean over a whole map feeds the layer."""
    x = _averaged(subject, node.inputs[0])
    sizes, vector = dims(subject, x), dims(subject, node.inputs[0])
    if x is None or sizes is None or vector is None or len(vector) != 2:
        raise UnsupportedLayer(_why_no_map(subject, node.inputs[0]))
    kernel = (1,) * (len(sizes) - 2)
    conv = _conv(subject, name, layer, layer.weight.reshape(*layer.weight.shape, *kernel), x)
    conv.name = name
    mean = ir.node("GlobalAveragePool", [conv.outputs[0]], name=f"{name}.mean")
    subject.replace(
        node, [conv, mean, ir.node("Flatten", [mean.outputs[0]], {"axis": 1}, name=f"{name}.flat")]
    )
    return Edit(layer=name, action="to convolution before the mean", details={"kernel": list(kernel)})


def _averaged(subject: PassContext, value: ir.Value | None) -> ir.Value | None:
    """The map of which `value`, a vector, is the mean over all positions."""
    node = None if value is None else value.producer()
    if node is None or node.domain or not node.inputs:
        return None
    if is_global_mean(subject, node):
        return node.inputs[0]
    plain = node.op_type in ("Identity", "Dropout") or is_flatten(subject, node) or is_identity(subject, node)
    return _averaged(subject, node.inputs[0]) if plain else None


def _why_no_map(subject: PassContext, data: ir.Value | None) -> str:
    node = None if data is None else data.producer()
    before = dims(subject, node.inputs[0]) if node is not None and node.inputs else None
    if node is not None and node.op_type in ("Flatten", "Reshape") and before and None in before[1:]:
        return "the map that is flattened for it has an open size: fix the inputs with --shape"
    return "it is not fed by a flattened map"
