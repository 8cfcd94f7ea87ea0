"""Fold batch norm into the linear layer before it, or else into the one after it.

Between the two there may be an Identity, a padding, and before the norm the addition of a bias. A padding
that repeats values stays right; a constant one needs another constant, which must be the same for every
channel. The algebra is in `modelsurgeon.layers.batchnorm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.layers import batchnorm as algebra
from modelsurgeon.layers.batchnorm import Affine
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes import linear_nodes, pads
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, edit_each_norm
from modelsurgeon.onnx.passes.context import PassContext
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
    return [edits[name] for name in context.names.values() if name in edits]


def _fold_norm(context: PassContext, site: NormSite) -> Edit:
    if site.training:
        raise UnsupportedLayer(TRAINING_MODE_REASON)
    try:
        into = _fold_into_previous(context, site, site.norm.affine)
    except UnsupportedLayer as reason_before:
        try:
            into = _fold_into_next(context, site, site.norm.affine)
        except UnsupportedLayer as reason_after:
            raise _combined_reason(reason_before, reason_after) from reason_after
    return Edit(layer=site.name, action="fold", details={"into": context.names[into]})


def _combined_reason(reason_before: UnsupportedLayer, reason_after: UnsupportedLayer) -> UnsupportedLayer:
    """The reason about the layer before the norm, or else after it; both where neither is a linear layer."""
    if not isinstance(reason_before, NotLinear):
        return reason_before
    return (
        UnsupportedLayer(f"{reason_before}, {reason_after}")
        if isinstance(reason_after, NotLinear)
        else reason_after
    )


def _fold_into_previous(context: PassContext, site: NormSite, affine: Affine) -> ir.Node:
    """Fold the norm into the linear node before it, and remove the norm."""
    node, between = _previous_linear(site)
    linear_nodes.check_channels(context, node)
    layer = linear_nodes.read(context, node, geometry=False)
    bias = _added_bias(context, between[-1:])
    given = affine if bias is None else replace(affine, offset=np.zeros_like(affine.offset))
    folded = algebra.fold_output_affine(layer, given)
    steps = _pad_steps(context, between, affine.of_constant)
    if bias is not None:
        steps.append(_set_bias_step(context, between[-1], bias * affine.gain + affine.offset))
    for step in steps:
        step()
    linear_nodes.remove_node(context, site.node)
    linear_nodes.add_bias_after(context, node, linear_nodes.write(context, node, folded))
    return node


def _fold_into_next(context: PassContext, site: NormSite, affine: Affine) -> ir.Node:
    """Fold the norm into the linear node after it, and remove the norm."""
    node, between = _next_linear(site)
    linear_nodes.check_channels(context, node)
    folded = algebra.fold_input_affine(linear_nodes.read(context, node, geometry=True), affine)
    for step in _pad_steps(context, between, affine.before_constant):
        step()
    ir.convenience.replace_all_uses_with(site.node.outputs[0], site.x)
    context.graph.remove(site.node, safe=True)
    linear_nodes.add_bias_after(context, node, linear_nodes.write(context, node, folded))
    return node


def _previous_linear(site: NormSite) -> tuple[ir.Node, list[ir.Node]]:
    """The linear node before the norm, and the nodes between, the nearest to the norm first.

    Raises NotLinear, and UnsupportedLayer where a value between them has other uses.
    """
    between: list[ir.Node] = []
    value = site.x
    while (node := value.producer()) is not None:
        last = linear_nodes.is_linear(node)
        passes = not _is_add(between[-1:]) and (node.op_type in TRANSPARENT or _adds_constant(node))
        if not (last or passes):
            raise NotLinear(f"{node.op_type} comes before it")
        linear_nodes.check_single_use(value)
        if last:
            return node, between
        between.append(node)
        data = node.inputs[0] if constant_array(node.inputs[0]) is None else node.inputs[1]
        if data is None:
            break
        value = data
    raise NotLinear("nothing comes before it")


def _adds_constant(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(constant_array(value) is not None for value in node.inputs)


def _is_add(nodes: Sequence[ir.Node]) -> bool:
    return any(node.op_type == "Add" for node in nodes)


def _next_linear(site: NormSite) -> tuple[ir.Node, list[ir.Node]]:
    """The linear node after the norm, and the nodes between. Raises as `_previous_linear` does."""
    between: list[ir.Node] = []
    value = site.node.outputs[0]
    node = linear_nodes.single_consumer(value)
    while node is not None and not linear_nodes.is_linear(node):
        if node.op_type not in TRANSPARENT:
            raise NotLinear(f"{node.op_type} comes after it")
        between.append(node)
        value = node.outputs[0]
        node = linear_nodes.single_consumer(value)
    if node is None:
        raise NotLinear("nothing comes after it")
    return node, between


def _pad_steps(
    context: PassContext, between: Sequence[ir.Node], change: Callable[[float], float]
) -> list[Step]:
    """Steps that change the constants of the paddings in between."""
    return [pads.pad_value_step(context, node, change) for node in between if node.op_type == "Pad"]


def _added_bias(context: PassContext, last: Sequence[ir.Node]) -> Array | None:
    """The bias that an Add right after the linear node adds, `(channels,)` or `(1,)`; None without an Add."""
    if not _is_add(last):
        return None
    (node,) = last
    found = [array for array in map(constant_array, node.inputs) if array is not None]
    ndim = context.ndim(node.outputs[0])
    if ndim is None:
        raise UnsupportedLayer("the number of axes of the Add before it isn't known")
    shape = (1,) * (ndim - found[0].ndim) + found[0].shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        raise UnsupportedLayer("the Add before it differs from position to position")
    return found[0].reshape(-1)


def _set_bias_step(context: PassContext, node: ir.Node, bias: Array) -> Step:
    """A step that replaces the constant of an Add by a bias, `(channels,)`."""
    place = 0 if constant_array(node.inputs[0]) is not None else 1
    ndim = context.ndim(node.outputs[0]) or 2
    dtype = context.inferred(node.outputs[0]).dtype or ir.DataType.FLOAT
    shaped = bias.astype(dtype.numpy()).reshape(-1, *(1,) * (ndim - 2))
    name = f"{context.names.get(node, 'add')}.bias"
    return lambda: node.replace_input_with(place, context.store(name, shaped))
