"""Fold batch norm into the linear layer before it, or else into the one after it.

Between the two there may be an Identity, a Transpose, a padding, and before the norm the addition of a bias.
A padding that repeats values stays right; a constant one needs another constant, which must be the same for
every channel. Multiplications and additions of one constant per channel (`scales`) are folded into the layer
before them as norms are; where they can't be, they are no norms, and have no edit. The algebra is in
`modelsurgeon.layers.batchnorm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.layers import batchnorm as algebra
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes import linear_nodes, pads
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, edit_each_norm
from modelsurgeon.onnx.passes.batchnorm.scales import ChannelAffine, scale_runs
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import is_op, keeps_type, transpose_order
from modelsurgeon.surgery.edits import Edit

TRAINING_MODE_REASON = (
    "it is in training mode, its statistics are those of each batch: bn freeze --training first"
)
TRANSPARENT = ("Identity", "Pad")
Step = Callable[[], None]


class NotLinear(UnsupportedLayer):
    """The node next to the batch norm is no linear layer."""


def fold(context: PassContext) -> list[Edit]:
    """Fold every batch norm that can be folded; repeated, since folding one may make another foldable."""
    edits: dict[str, Edit] = {}
    before = -1
    while before < (before := sum(edit.skipped is None for edit in edits.values())):
        edits |= {e.layer: e for e in edit_each_norm(context, "fold", lambda site: _fold_norm(context, site))}
        edits |= {edit.layer: edit for edit in _fold_scales(context)}
    return [edits[name] for name in context.names.values() if name in edits]


def _fold_norm(context: PassContext, site: NormSite) -> Edit:
    if site.training:
        raise UnsupportedLayer(TRAINING_MODE_REASON)
    norm = ChannelAffine(name=site.name, x=site.x, nodes=[site.node], axis=1, affine=site.norm.affine)
    try:
        into = _fold_into_previous(context, norm)
    except UnsupportedLayer as reason_before:
        try:
            into = _fold_into_next(context, norm)
        except UnsupportedLayer as reason_after:
            raise _combined_reason(reason_before, reason_after) from reason_after
    return _edit(context, norm, into)


def _fold_scales(context: PassContext) -> Iterator[Edit]:
    """Fold what scales channels by constants into the layers before."""
    for scales in list(scale_runs(context)):
        with suppress(UnsupportedLayer):
            yield _edit(context, scales, _fold_into_previous(context, scales))


def _edit(context: PassContext, norm: ChannelAffine, into: ir.Node) -> Edit:
    return Edit(layer=norm.name, action="fold", details={"into": context.names[into]})


def _combined_reason(reason_before: UnsupportedLayer, reason_after: UnsupportedLayer) -> UnsupportedLayer:
    """The reason about the layer before the norm, or else after it; both where neither is a linear layer."""
    if not isinstance(reason_before, NotLinear):
        return reason_before
    return (
        UnsupportedLayer(f"{reason_before}, {reason_after}")
        if isinstance(reason_after, NotLinear)
        else reason_after
    )


def _fold_into_previous(context: PassContext, norm: ChannelAffine) -> ir.Node:
    """Fold the norm into the linear node before it, and remove the norm."""
    affine, (node, axis, between) = norm.affine, _previous_linear(context, norm)
    linear_nodes.check_channels(context, node, axis)
    layer = linear_nodes.read(context, node, geometry=False)
    bias = _added_bias(context, between[-1:])
    given = affine if bias is None else replace(affine, offset=np.zeros_like(affine.offset))
    folded = algebra.fold_output_affine(layer, given)
    steps = _pad_steps(context, between, affine.of_constant)
    if bias is not None:
        steps.append(_set_bias_step(context, between[-1], bias * affine.gain + affine.offset))
    for step in steps:
        step()
    linear_nodes.remove_run(context, norm.x, norm.nodes)
    linear_nodes.add_bias_after(context, node, linear_nodes.write(context, node, folded))
    return node


def _fold_into_next(context: PassContext, norm: ChannelAffine) -> ir.Node:
    """Fold the norm into the linear node after it, and remove the norm."""
    node, axis, between = _next_linear(context, norm)
    linear_nodes.check_channels(context, node, axis)
    folded = algebra.fold_input_affine(linear_nodes.read(context, node, geometry=True), norm.affine)
    for step in _pad_steps(context, between, norm.affine.before_constant):
        step()
    ir.convenience.replace_all_uses_with(norm.nodes[-1].outputs[0], norm.x)
    for old in reversed(norm.nodes):
        context.graph.remove(old, safe=True)
    linear_nodes.add_bias_after(context, node, linear_nodes.write(context, node, folded))
    return node


class _Passed(NamedTuple):
    """A node between a norm and a linear node. axis: of the channels of its output."""

    node: ir.Node
    axis: int


def _previous_linear(context: PassContext, norm: ChannelAffine) -> tuple[ir.Node, int, list[_Passed]]:
    """The linear node before the norm, the axis of its channels, and the nodes between, the last one first.

    Raises NotLinear, and UnsupportedLayer where a value between them has other uses.
    """
    between: list[_Passed] = []
    value, axis = norm.x, norm.axis
    while (node := value.producer()) is not None:
        last, order = linear_nodes.is_linear(node), transpose_order(context, node)
        passes = order is not None or _is_transparent(context, node) or _adds_constant(node)
        if not last and (not passes or _is_add(between[-1:])):
            raise NotLinear(f"{node.op_type} comes before it")
        linear_nodes.check_single_use(value)
        if last:
            return node, axis, between
        between.append(_Passed(node, axis))
        axis = axis if order is None else order[axis]
        data = node.inputs[0] if constant_array(node.inputs[0]) is None else node.inputs[1]
        if data is None:
            break
        value = data
    raise NotLinear("nothing comes before it")


def _is_transparent(context: PassContext, node: ir.Node) -> bool:
    """Whether the node keeps all numbers, and at most adds positions."""
    return is_op(node, TRANSPARENT) or keeps_type(context, node)


def _adds_constant(node: ir.Node) -> bool:
    aligned = is_op(node, ("Add",)) and "axis" not in node.attributes
    return aligned and any(constant_array(value) is not None for value in node.inputs)


def _is_add(last: Sequence[_Passed]) -> bool:
    return any(node.op_type == "Add" for node, _ in last)


def _next_linear(context: PassContext, norm: ChannelAffine) -> tuple[ir.Node, int, list[_Passed]]:
    """The linear node after the norm, and as `_previous_linear`. Raises as that does."""
    between: list[_Passed] = []
    value, axis = norm.nodes[-1].outputs[0], norm.axis
    node = linear_nodes.single_consumer(value)
    while node is not None and not linear_nodes.is_linear(node):
        order = transpose_order(context, node)
        if order is None and not _is_transparent(context, node):
            raise NotLinear(f"{node.op_type} comes after it")
        axis = axis if order is None else order.index(axis)
        between.append(_Passed(node, axis))
        value = node.outputs[0]
        node = linear_nodes.single_consumer(value)
    if node is None:
        raise NotLinear("nothing comes after it")
    return node, axis, between


def _pad_steps(
    context: PassContext, between: Sequence[_Passed], change: Callable[[float], float]
) -> list[Step]:
    """Steps that change the constants of the paddings in between."""
    pad_nodes = [passed for passed in between if passed.node.op_type == "Pad"]
    if any(axis != 1 for _, axis in pad_nodes):
        raise UnsupportedLayer("a Pad in between works on other axes than those after the channels")
    return [pads.pad_value_step(context, node, change) for node, _ in pad_nodes]


def _added_bias(context: PassContext, last: Sequence[_Passed]) -> Array | None:
    """The bias that an Add right after the linear node adds, `(channels,)` or `(1,)`; None without an Add."""
    if not _is_add(last):
        return None
    ((node, channels),) = last
    found = [array for array in map(constant_array, node.inputs) if array is not None]
    ndim = context.ndim(node.outputs[0])
    if ndim is None:
        raise UnsupportedLayer("the number of axes of the Add before it isn't known")
    shape = (1,) * (ndim - found[0].ndim) + found[0].shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != channels):
        raise UnsupportedLayer("the Add before it differs from position to position")
    return found[0].reshape(-1)


def _set_bias_step(context: PassContext, last: _Passed, bias: Array) -> Step:
    """A step that replaces the constant of an Add by a bias, `(channels,)`."""
    node, axis = last
    place = 0 if constant_array(node.inputs[0]) is not None else 1
    ndim = context.ndim(node.outputs[0]) or 2
    dtype = context.inferred(node.outputs[0]).dtype or ir.DataType.FLOAT
    shaped = bias.astype(dtype.numpy()).reshape(-1, *(1,) * (ndim - 1 - axis))
    name = f"{context.names.get(node, 'add')}.bias"
    return lambda: node.replace_input_with(place, context.store(name, shaped))
