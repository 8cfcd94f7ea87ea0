"""Heads with more classes than the donor's.

The rows of a head are its classes. Old classes keep their rows bit for bit, so their outputs stay the same up
to the rounding of a wider product; a bias in an Add after a MatMul grows with it, and so do batch norms and
other numbers for each class behind it (`class_flow`). A head of several groups becomes one of a single group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import BadModel, BadPlan, UnknownShape
from modelsurgeon.layers import Layer
from modelsurgeon.matching.head_rows import Growth, Rows, class_origins, fit_rows, grow_rows
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import forget_shapes
from modelsurgeon.onnx.passes.steal.class_flow import ClassFlow, PerClass, SizeInput, class_flow
from modelsurgeon.onnx.passes.steal.parts import WeightedParts, stored_weights, write_layer
from modelsurgeon.onnx.shapes import bound
from modelsurgeon.surgery.edits import Edit

ShapesByName = dict[str | None, list[str]]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head to grow. site: the recipient's. theirs: the donor's parts. donors: layer -> the donor's."""

    site: OnnxSite
    theirs: WeightedParts
    donors: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the recipient's layer."""
        return self.site.name

    @property
    def donor(self) -> Layer:
        """The donor's layer. Raises BadPlan where there is none."""
        source = self.donors.get(self.name)
        if source is None or source not in self.theirs.layers:
            raise BadPlan(f"no layer of the donor belongs to {self.name!r}: name one in a map (--map)")
        return self.theirs.layers[source].layer


def grow(context: PassContext, head: Head, growth: Growth, expected: ShapesByName) -> Edit:
    """Grow a head to the requested number of classes; the donor's rows come first or at their labels.

    Constants for each class behind it grow with it. expected: the shapes of all values; empty before the
    first head, updated here. Raises BadPlan where no layer of the donor belongs to it,
    its inputs differ, or a node behind it has no clear meaning with more classes.
    """
    site, donor, own = head.site, head.donor, head.site.layer
    size, source = growth.sizes[head.name], head.donors[head.name]
    if donor.weight.shape[1:] != own.weight.shape[1:] or donor.groups != own.groups:
        raise BadPlan(
            f"{site.name!r} takes {own.weight.shape[1:]}, {source!r} of the donor {donor.weight.shape[1:]}: "
            "only a head with the same inputs grows"
        )
    if own.transposed and own.groups > 1:
        raise BadPlan(
            f"{site.name!r} is a transposed convolution of {own.groups} groups: only one group grows"
        )
    flow = class_flow(context, site.nodes, own.out_channels)
    if flow.stopped and size != own.out_channels:
        raise BadPlan(f"{site.name!r} doesn't grow: {flow.stopped[0]}; extract up to its scores first")
    if not expected:
        expected.update(_shapes(context.measured))
    rows = class_origins(size, donor.out_channels, growth.labels, growth.init)
    donor = _in_one_group(donor)
    weight = grow_rows(donor.weight, rows, growth.init, growth.seed)
    bias = None if donor.bias is None else grow_rows(donor.bias, rows, growth.init, growth.seed + 1)
    layer = replace(own, weight=weight.astype(own.weight.dtype), bias=bias, groups=1)
    layer = _fit_new_rows(context, site, layer, rows, growth) if growth.init == "fit" else layer
    behind = _bias_add(site)
    for node in site.nodes if own.groups > 1 else ():
        node.attributes["group"] = ir.AttrInt64("group", 1)
    write_layer(context, site, layer)
    _grow_bias(context, behind, head.theirs, source, rows, growth)
    for numbers in flow.numbers:
        if numbers.node is not behind:
            _grow_numbers(context, head, numbers, rows, growth)
    for sizes in flow.sizes:
        _set_size(context, sizes, size)
    forget_shapes(context.model)
    _check_shapes(context, head.name, flow, size, expected)
    details = {"donor": source, "classes": size, "new_rows": growth.init}
    return Edit(layer=site.name, action="grow", details=details)


def _in_one_group(layer: Layer) -> Layer:
    """The layer without groups: with more classes the old ones would fall into other groups."""
    if layer.groups == 1:
        return layer
    inner, outer = layer.weight.shape[1], layer.out_channels // layer.groups
    weight = np.zeros((layer.out_channels, inner * layer.groups, *layer.kernel), layer.weight.dtype)
    for group in range(layer.groups):
        rows = slice(group * outer, (group + 1) * outer)
        weight[rows, group * inner : (group + 1) * inner] = layer.weight[rows]
    return replace(layer, weight=weight, groups=1)


def _grow_numbers(context: PassContext, head: Head, numbers: PerClass, rows: Rows, growth: Growth) -> None:
    """Grow numbers for each class: the donor's for old classes, neutral or mean ones for new classes."""
    node, count = numbers.node, head.donor.out_channels
    own = constant_array(node.inputs[numbers.place])
    assert own is not None, "seen when the classes were followed"  # noqa: S101
    source = head.donors.get(context.names.get(node, ""))
    held = head.theirs.weights.get(source, {}) if source is not None else {}
    old = held.get(str(numbers.place), own)
    if old.ndim != own.ndim or old.shape[numbers.axis] != count:
        old = own
    if old.shape[numbers.axis] != count:
        if own.shape[numbers.axis] == len(rows):
            return
        raise BadPlan(
            f"{head.name!r} doesn't grow: {node.op_type} {node.name!r} behind it has numbers for "
            f"{own.shape[numbers.axis]} classes, the donor has {count}"
        )
    neutral = numbers.neutral if growth.init in ("zero", "map", "fit") else None
    moved = np.moveaxis(old, numbers.axis, 0)
    made = grow_rows(moved, rows, "mean")
    if neutral is not None:
        made[[not row for row in rows]] = neutral
    made = np.ascontiguousarray(np.moveaxis(made, 0, numbers.axis)).astype(own.dtype)
    name = str(node.inputs[numbers.place].name)  # type: ignore[union-attr]
    node.replace_input_with(numbers.place, context.store(f"{name}.grown", made))


def _set_size(context: PassContext, sizes: SizeInput, classes: int) -> None:
    value = sizes.node.inputs[sizes.place]
    target = np.array(constant_array(value))
    target[sizes.index] = classes
    sizes.node.replace_input_with(sizes.place, context.store(f"{value.name}.grown", target))  # type: ignore[union-attr]


def _shapes(model: ir.Model) -> ShapesByName:
    values = [value for node in model.graph for value in node.outputs]
    return {value.name: [str(dim) for dim in value.shape] for value in values if value.shape is not None}


def _check_shapes(
    context: PassContext, name: str, flow: ClassFlow, size: int, expected: ShapesByName
) -> None:
    """Raise BadPlan where a shape has changed otherwise than in the axis of classes."""
    for value, axis in flow.axes.items():
        if (old := expected.get(value.name)) is not None:
            expected[value.name] = [str(size) if a == axis else dim for a, dim in enumerate(old)]
    try:
        after = _shapes(bound(context.model, context.given, context.dims))
    except (BadModel, UnknownShape) as error:
        raise BadPlan(f"{name!r} doesn't grow: no shapes behind it fit {size} classes ({error})") from error
    for key, shape in after.items():
        if key in expected and expected[key] != shape:
            raise BadPlan(
                f"{name!r} doesn't grow: with {size} classes {key!r} behind it would become "
                f"{'x'.join(shape)}, where {'x'.join(expected[key])} is needed"
            )


def _fit_new_rows(context: PassContext, site: OnnxSite, layer: Layer, rows: Rows, growth: Growth) -> Layer:
    if growth.means is None or layer.kernel:
        raise BadPlan("new rows are fitted to the mean features of labelled data (--data): give some")
    data = site.nodes[0].inputs[0]
    means = growth.means(context.model, "" if data is None else str(data.name), len(rows))
    weight, bias = fit_rows(layer.weight, layer.bias, rows, means)
    return replace(layer, weight=weight, bias=bias)


def _bias_add(site: OnnxSite) -> ir.Node | None:
    """The Add after a MatMul that holds its bias; None where there is none."""
    users = [node for node, _ in site.nodes[0].outputs[0].uses()]
    one = len(users) == 1 and users[0].op_type == "Add" and site.layer.bias is None
    return users[0] if one and stored_weights(users[0]) else None


def _grow_bias(
    context: PassContext, add: ir.Node | None, theirs: WeightedParts, source: str, rows: Rows, growth: Growth
) -> None:
    if add is None:
        return
    donor = _bias_add(theirs.layers[source])
    [(place, own)] = stored_weights(add).items()
    old = own if donor is None else next(iter(stored_weights(donor).values()))
    new = grow_rows(old.reshape(-1), rows, growth.init, growth.seed + 1).astype(own.dtype)
    add.replace_input_with(int(place), context.store("grown.bias", np.ascontiguousarray(new)))
