"""Batch norm is absorbed into the linear layer before it, or else into the one behind it.

Between the two may stand what changes nothing (Identity), a padding, and before the norm the addition of a
bias. A padding that repeats values does so with the folded ones; a constant one needs another constant, which
must be the same for every channel. The algebra is in `modelsurgeon.fold`.
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
from modelsurgeon.onnx.passes.batchnorm.nodes import NormSite, each
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

TRAINING_MODE_REASON = (
    "it is in training mode, its statistics are those of each batch: bn freeze --training first"
)
TRANSPARENT = ("Identity", "Pad")
Step = Callable[[], None]


class NotLinear(UnsupportedLayer):
    """What stands next to the batch norm is no linear layer."""


def fold(subject: PassContext) -> list[Edit]:
    """Fold every batch norm that can be folded; one that stood in another's way makes room for it."""
    edits: dict[str, Edit] = {}
    before = -1
    while before < (before := sum(edit.skipped is None for edit in edits.values())):
        edits |= {e.layer: e for e in each(subject, "fold", lambda site: _folded(subject, site))}
    return [edits[name] for name in subject.names.values() if name in edits]


def _folded(subject: PassContext, site: NormSite) -> Edit:
    if site.training:
        raise UnsupportedLayer(TRAINING_MODE_REASON)
    try:
        into = _behind(subject, site, site.norm.affine)
    except UnsupportedLayer as before:
        try:
            into = _in_front(subject, site, site.norm.affine)
        except UnsupportedLayer as behind:
            raise _reason(before, behind) from behind
    return Edit(layer=site.name, action="fold", details={"into": subject.names[into]})


def _reason(before: UnsupportedLayer, behind: UnsupportedLayer) -> UnsupportedLayer:
    """The reason that concerns a linear layer; where none stands next to the norm, that is the reason."""
    if not isinstance(before, NotLinear):
        return before
    return UnsupportedLayer(f"{before}, {behind}") if isinstance(behind, NotLinear) else behind


def _behind(subject: PassContext, site: NormSite, affine: Affine) -> ir.Node:
    """Fold into the linear node before the norm, which goes."""
    node, between = _before(site)
    linear_nodes.check_channels(subject, node)
    layer = linear_nodes.read(subject, node, geometry=False)
    bias = _added(subject, between[-1:])
    given = affine if bias is None else replace(affine, offset=np.zeros_like(affine.offset))
    folded = algebra.behind(layer, given)
    steps = _steps(subject, between, affine.of_constant)
    if bias is not None:
        steps.append(_other_bias(subject, between[-1], bias * affine.gain + affine.offset))
    for step in steps:
        step()
    linear_nodes.remove(subject, site.node)
    linear_nodes.add_behind(subject, node, linear_nodes.give(subject, node, folded))
    return node


def _in_front(subject: PassContext, site: NormSite, affine: Affine) -> ir.Node:
    """Fold into the linear node behind the norm, which goes."""
    node, between = _behind_it(site)
    linear_nodes.check_channels(subject, node)
    folded = algebra.in_front(linear_nodes.read(subject, node, geometry=True), affine)
    for step in _steps(subject, between, affine.before_constant):
        step()
    ir.convenience.replace_all_uses_with(site.node.outputs[0], site.x)
    subject.graph.remove(site.node, safe=True)
    linear_nodes.add_behind(subject, node, linear_nodes.give(subject, node, folded))
    return node


def _before(site: NormSite) -> tuple[ir.Node, list[ir.Node]]:
    """The linear node before the norm, and what lies between, the nearest to the norm first."""
    between: list[ir.Node] = []
    value = site.x
    while (node := value.producer()) is not None:
        last = linear_nodes.is_linear(node)
        passes = not _is_add(between[-1:]) and (node.op_type in TRANSPARENT or _adds_constant(node))
        if not (last or passes):
            raise NotLinear(f"{node.op_type} stands before it")
        linear_nodes.check_alone(value)
        if last:
            return node, between
        between.append(node)
        data = node.inputs[0] if constant_array(node.inputs[0]) is None else node.inputs[1]
        if data is None:
            break
        value = data
    raise NotLinear("nothing stands before it")


def _adds_constant(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(constant_array(value) is not None for value in node.inputs)


def _is_add(nodes: Sequence[ir.Node]) -> bool:
    return any(node.op_type == "Add" for node in nodes)


def _behind_it(site: NormSite) -> tuple[ir.Node, list[ir.Node]]:
    """The linear node behind the norm, and what lies between."""
    between: list[ir.Node] = []
    value = site.node.outputs[0]
    node = linear_nodes.taker(value)
    while node is not None and not linear_nodes.is_linear(node):
        if node.op_type not in TRANSPARENT:
            raise NotLinear(f"{node.op_type} stands behind it")
        between.append(node)
        value = node.outputs[0]
        node = linear_nodes.taker(value)
    if node is None:
        raise NotLinear("nothing stands behind it")
    return node, between


def _steps(subject: PassContext, between: Sequence[ir.Node], change: Callable[[float], float]) -> list[Step]:
    """What the paddings in between have to add instead."""
    return [pads.carried(subject, node, change) for node in between if node.op_type == "Pad"]


def _added(subject: PassContext, last: Sequence[ir.Node]) -> Array | None:
    """The bias that is added right behind the linear node, `(channels,)` or `(1,)`; None where none is."""
    if not _is_add(last):
        return None
    (node,) = last
    found = [array for array in map(constant_array, node.inputs) if array is not None]
    ndim = subject.ndim(node.outputs[0])
    if ndim is None:
        raise UnsupportedLayer("the Add before it has a number of axes that isn't known")
    shape = (1,) * (ndim - found[0].ndim) + found[0].shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        raise UnsupportedLayer("the Add before it differs from position to position")
    return found[0].reshape(-1)


def _other_bias(subject: PassContext, node: ir.Node, bias: Array) -> Step:
    """A step that gives an Add another constant, one number per channel."""
    place = 0 if constant_array(node.inputs[0]) is not None else 1
    ndim = subject.ndim(node.outputs[0]) or 2
    dtype = subject.inferred(node.outputs[0]).dtype or ir.DataType.FLOAT
    shaped = bias.astype(dtype.numpy()).reshape(-1, *(1,) * (ndim - 2))
    name = f"{subject.names.get(node, 'add')}.bias"
    return lambda: node.replace_input_with(place, subject.store(name, shaped))
