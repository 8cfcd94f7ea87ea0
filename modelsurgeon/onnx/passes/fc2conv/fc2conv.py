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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import weight_input_index
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.class_axis import class_axis, set_class_axis
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import (
    InputAxes,
    SpatialAxes,
    forget_shapes,
    input_axes,
    open_axes,
    why_inputs_stay_fixed,
)
from modelsurgeon.onnx.passes.op_predicates import (
    BINARY,
    FLATTENING,
    FULLY_CONNECTED,
    NORMALIZING,
    UNARY,
    dims,
    is_flatten,
    is_global_mean,
    is_identity,
    mean_axes,
    opset,
)
from modelsurgeon.surgery.edits import Edit

ACTION = "to convolution"
NO_MAP = "its input is no flattened map"
AFTER_MEAN = "it works on a mean or maximum over a map, which may have any size"
NO_INPUT = "the size of its map doesn't depend on that of an input: nodes before it have fixed sizes"
AROUND_MEANS = ("BatchNormalization", "Transpose", "Unsqueeze")

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
    """Flat values with the form of their maps, and the nodes between them in file order.

    kept: layer -> the reason why it isn't converted. sources: flat value -> the maps that it was made from.
    maps: layer -> the maps whose sizes it allows to open.
    """

    context: PassContext
    kept: Mapping[str, str] = field(default_factory=dict)
    sources: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    maps: dict[str, Sequence[SpatialAxes]] = field(default_factory=dict)
    forms: dict[ir.Value, MapForm] = field(default_factory=dict)
    steps: list[MapStep] = field(default_factory=list)

    def add(self, node: ir.Node, *after: MapForm) -> None:
        """Add a node whose outputs have these forms."""
        before = next((form for value in node.inputs if (form := self.form(value))), None)
        self.steps.append(MapStep(node=node, before=before, after=after[0]))
        found = {v: None for value in node.inputs if value in self.sources for v in self.sources[value]}
        for value, form in zip(node.outputs, after, strict=False):
            self.forms[value] = form
            self.sources[value] = [form.source] if form.source is not None else list(found)

    def form(self, value: ir.Value | None) -> MapForm | None:
        """The form of a value's map; None where it has none."""
        return None if value is None else self.forms.get(value)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Converted layers. edits: one for every layer. maps: layer -> the maps that its input is made from."""

    edits: Sequence[Edit]
    maps: Mapping[str, Sequence[SpatialAxes]]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Axes of inputs that can be open. fixed: input -> reason. kept: converted layer -> reason to undo it."""

    axes: InputAxes
    fixed: Mapping[str, str]
    kept: Mapping[str, str]


def fc2conv(context: PassContext) -> list[Edit]:
    """Turn fully connected layers into convolutions, and make the spatial sizes of their inputs dynamic.

    A layer whose inputs can't be open stays as it is: what would be converted is seen on a copy.
    """
    kept: dict[str, str] = {}
    fixed: dict[str, str] = {}
    while True:
        trial = context.trial()
        conversion = _convert_layers(trial, kept)
        if not conversion.maps:
            return [*conversion.edits, *_closed_edits(fixed)]
        opening = _plan_opening(trial.model, conversion)
        fixed |= opening.fixed
        if not opening.kept:
            break
        kept |= opening.kept
    edits = list(_convert_layers(context, kept).edits)
    opened = open_axes(context, opening.axes)
    if opened or any(edit.skipped is None for edit in edits):
        RemoveUnusedNodesPass()(context.model)
        forget_shapes(context.model)
    return [*edits, *opened, *_closed_edits(fixed)]


def _closed_edits(fixed: Mapping[str, str]) -> list[Edit]:
    return [Edit(layer=name, action="open sizes", skipped=reason) for name, reason in fixed.items()]


def _convert_layers(context: PassContext, kept: Mapping[str, str]) -> Conversion:
    """Convert all layers but those that the user or `kept` excludes."""
    region = MapRegion(context=context, kept=kept)
    edits = []
    for node in list(context.graph):
        if not node.domain and node.op_type in FULLY_CONNECTED:
            edits.append(_convert_layer(region, node))
        elif forms := _output_forms(region, node):
            region.add(node, *forms)
    _rewrite_steps(context, _needed_steps(region.steps))
    return Conversion(edits=edits, maps=region.maps)


def _plan_opening(model: ir.Model, conversion: Conversion) -> Opening:
    """What can be open in a converted model, and which layers were converted for nothing."""
    by_map = input_axes(model, {each for maps in conversion.maps.values() for each in maps})
    wanted: dict[str, list[int]] = {}
    for axes in by_map.values():
        for name, places in axes.items():
            wanted[name] = sorted({*wanted.get(name, ()), *places})
    reasons = why_inputs_stay_fixed(model, wanted)
    converted = {edit.layer for edit in conversion.edits if edit.skipped is None}
    kept: dict[str, str] = {}
    for layer, maps in conversion.maps.items():
        names = [name for each in maps for name in by_map[each]]
        closed = [name for name in names if name in reasons]
        if layer in converted and closed:
            kept[layer] = f"input {closed[0]!r} keeps its size: {reasons[closed[0]]}"
        elif layer in converted and not all(by_map[each] for each in maps):
            kept[layer] = NO_INPUT
    return Opening(
        axes={name: axes for name, axes in wanted.items() if name not in reasons}, fixed=reasons, kept=kept
    )


def _convert_layer(region: MapRegion, node: ir.Node) -> Edit:
    """Add the layer to the region or move it before a mean; its edit, with the reason where neither works."""
    context, name = region.context, region.context.names[node]
    if reason := context.skip_reason(name):
        return Edit(layer=name, action=ACTION, skipped=reason)
    mean = _mean_behind(context, node.inputs[0])
    if mean is not None:
        region.maps[name] = [mean]
    try:
        if reason := region.kept.get(name):
            raise UnsupportedLayer(reason)
        if weight_input_index(node) == 0:
            raise UnsupportedLayer("its weight is on the left of its data")
        layer = operators.read(node, None)
        form = region.form(node.inputs[0])
        if form is None:
            return _move_before_mean(context, node, layer, name)
    except UnsupportedLayer as reason:
        stays = mean is not None and str(reason) == NO_MAP
        return Edit(layer=name, action=ACTION, skipped=AFTER_MEAN if stays else str(reason))
    region.add(node, MapForm(size=(layer.out_channels, *(1 for _ in form.size[1:]))))
    sources = region.sources[node.outputs[0]]
    region.maps[name] = [SpatialAxes(str(v.name), tuple(range(2, len(form.size) + 1))) for v in sources]
    return Edit(layer=name, action=ACTION, details={"kernel": list(form.size[1:])})


def _mean_behind(context: PassContext, value: ir.Value | None) -> SpatialAxes | None:
    """The map whose mean or maximum leads to this vector through nodes on vectors; None where none does."""
    while value is not None and (node := value.producer()) is not None and node.inputs and not node.domain:
        axes = mean_axes(context, node)
        if node.op_type == "GlobalMaxPool" and (sizes := dims(context, node.inputs[0])) is not None:
            axes = list(range(2, len(sizes)))
        if axes is not None and node.inputs[0] is not None:
            return SpatialAxes(str(node.inputs[0].name), tuple(axes))
        passed = node.op_type in (*UNARY, *BINARY, *FULLY_CONNECTED, *NORMALIZING, *FLATTENING, *AROUND_MEANS)
        value = next((v for v in node.inputs if constant_array(v) is None), None) if passed else None
    return None


def _output_forms(region: MapRegion, node: ir.Node) -> list[MapForm]:
    """The forms of a node's outputs; none where it needs the flat form or its input is no flattened map."""
    if node.domain or not node.inputs or not node.outputs:
        return []
    if is_flatten(region.context, node):
        found = _source_form(region.context, node.inputs[0])
    elif (form := region.form(node.inputs[0])) is not None and (
        node.op_type in UNARY or is_identity(region.context, node)
    ):
        found = MapForm(size=form.size, last=form.last)
    elif form is not None and form.is_point and _works_along_channels(region.context, node):
        found = MapForm(size=form.size)
    elif node.op_type in BINARY:
        found = _combined_form(region, node)
    else:
        return _forms_along_classes(region, node)
    return [] if found is None else [found]


def _forms_along_classes(region: MapRegion, node: ir.Node) -> list[MapForm]:
    """The forms of the outputs of a node that works along the classes, on vectors of these."""
    data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    forms = [form for value in data if (form := region.form(value)) is not None and form.is_point]
    if len(forms) < len(data) or len({form.size[1:] for form in forms}) > 1:
        return []
    return [MapForm(size=(n, *forms[0].size[1:])) for n in _class_counts(region.context, node)]


def _class_counts(context: PassContext, node: ir.Node) -> list[int]:
    """The sizes of the outputs of a node that works along the classes and can do so on maps; or none."""
    if class_axis(node) not in (1, -1):
        return []
    counts = []
    for value in node.outputs:
        sizes = dims(context, value)
        flat = sizes is not None and len(sizes) == 2
        if sizes is not None and len(sizes) == 1 and not value.uses():  # keepdims = 0: nothing else reads it
            counts.append(1)
        elif not flat or sizes is None or sizes[1] is None:
            return []
        else:
            counts.append(sizes[1])
    return counts


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
    """The form of a binary node on values of one form, or with constants, scalar or one per channel.

    On maps of one position one value may also have a single channel.
    """
    forms = [form for value in node.inputs if (form := region.form(value)) is not None]
    if "broadcast" in node.attributes or not forms:
        return None
    widest = max(forms, key=lambda form: form.size[0])
    for form in forms:
        single = form.is_point and form.size == (1, *widest.size[1:])
        if form.last != widest.last or (form.size != widest.size and not single):
            return None
    for value in node.inputs:
        array = None if region.form(value) is not None else constant_array(value)
        fits = array is None or array.size == 1 or (widest.is_point and _is_per_class(array, widest.size[0]))
        if (array is None and region.form(value) is None) or not fits:
            return None
    return MapForm(size=widest.size, last=widest.last)


def _is_per_class(array: Array, classes: int) -> bool:
    return bool(array.shape[-1] == array.size == classes)


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


def _rewrite_steps(context: PassContext, steps: list[MapStep]) -> None:
    """Make the steps work on maps, flattened for all other users."""
    maps: Maps = {}
    new_nodes: list[ir.Node] = []
    for step in steps:
        node = step.node
        if step.after.source is not None:
            maps[node.outputs[0]] = step.after.source
        elif node.op_type in FLATTENING:
            maps[node.outputs[0]] = maps.get(node.inputs[0], node.inputs[0])
        else:
            new_nodes += _nodes_on_maps(context, step, maps)
    for node in new_nodes:
        for value in node.outputs:
            _flatten_for_others(context, node, value, set(new_nodes))


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
    elif class_axis(node) is not None:
        set_class_axis(context, node)
        return [node]
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
    return NO_MAP
