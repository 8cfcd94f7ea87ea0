"""Linear nodes under an edit that keeps their geometry: other numbers in, what stands next to them."""

from __future__ import annotations

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import ASSUMED_POSITIONS, LINEAR, weight_place
from modelsurgeon.onnx.layers.sites import check_uses, why_not_constant
from modelsurgeon.onnx.passes.context import PassContext


def is_linear(node: ir.Node) -> bool:
    """Whether the node is one that applies a layer."""
    return node.op_type in LINEAR and not node.domain


def check_alone(value: ir.Value) -> None:
    """Raise UnsupportedLayer where more than one node wants a value as it is."""
    if value.is_graph_output():
        raise UnsupportedLayer("what lies between it and the layer before it is a graph output")
    if len(value.uses()) > 1:
        raise UnsupportedLayer("what lies between it and the layer before it has other uses")


def taker(value: ir.Value) -> ir.Node | None:
    """The one node of the same graph that takes a value as its data; None where nothing takes it.

    Raises UnsupportedLayer where the value goes anywhere else.
    """
    uses = value.uses()
    if uses and value.is_graph_output():
        raise UnsupportedLayer("what lies between it and the layer behind it is a graph output")
    if len(uses) > 1 or any(node.graph is not value.graph for node, _ in uses):
        raise UnsupportedLayer("what lies between it and the layer behind it has other uses")
    return next((node for node, _ in uses), None)


def read(subject: PassContext, node: ir.Node, *, geometry: bool) -> Layer:
    """The layer of a node whose numbers may change. Raises UnsupportedLayer with the reason why they mayn't.

    geometry: whether the padding matters, which may depend on a size that the model leaves open.
    """
    place = weight_place(node)
    weight = stored_source(node.inputs[place])
    if weight is None:
        raise UnsupportedLayer(f"of the {node.op_type} beside it: {why_not_constant(node)}")
    try:
        check_uses(weight, {node})
        size = subject.size(node.inputs[1 - place])
        layer = operators.read(node, size if geometry or size else (ASSUMED_POSITIONS,) * MAX_AXES)
    except UnsupportedLayer as reason:
        raise UnsupportedLayer(f"of the {node.op_type} beside it: {reason}") from reason
    return layer


MAX_AXES = 8  # more than any kernel has


def check_channels(subject: PassContext, node: ir.Node) -> None:
    """Raise UnsupportedLayer unless axis 1 of a linear node's maps is that of its channels.

    A matrix on the right works on the last axis, one on the left on the last but one.
    """
    if node.op_type != "MatMul":
        return
    ndim = subject.ndim(node.outputs[0])
    if ndim is None:
        raise UnsupportedLayer("the MatMul beside it works on a map whose number of axes isn't known")
    if ndim != 2 + (weight_place(node) == 0):
        raise UnsupportedLayer("the MatMul beside it works on another axis than that of the channels")


def give(subject: PassContext, node: ir.Node, layer: Layer) -> Array | None:
    """Give a node the numbers of `layer`. A bias that MatMul has no place for comes back, to be added.

    It comes back in the shape in which it is added.
    """
    name = subject.names.get(node, node.op_type)
    weight = subject.store(f"{name}.weight", operators.weight_as_stored(node, layer))
    node.replace_input_with(weight_place(node), weight)
    if node.op_type == "Gemm":
        for attribute in ("alpha", "beta", "transB"):
            node.attributes.pop(attribute, None)
    if layer.bias is None:
        return None
    if node.op_type == "MatMul":
        return layer.bias if weight_place(node) == 1 else layer.bias[:, None]
    node.resize_inputs(3)
    node.replace_input_with(2, subject.store(f"{name}.bias", layer.bias))
    return None


def add_behind(subject: PassContext, node: ir.Node, bias: Array | None) -> None:
    """Add a bias to what a node gives, under the name of its output."""
    if bias is None:
        return
    name = subject.names.get(node, node.op_type)
    made = ir.node("Add", [node.outputs[0], subject.store(f"{name}.bias", bias)])
    old = node.outputs[0]
    new = made.outputs[0]
    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    made.replace_input_with(0, old)
    made.name = subject.free(f"{name}.add")
    old.name, new.name = subject.free(f"{name}.product"), old.name
    node.append(made)


def remove(subject: PassContext, node: ir.Node) -> None:
    """Take a node of one input out; what made its input now makes its output, under that name."""
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None, "its reader has seen to it"  # noqa: S101
    name = out.name
    ir.convenience.replace_all_uses_with(out, x, replace_graph_outputs=True)
    subject.graph.remove(node, safe=True)
    if x.producer() is not None:
        x.name = name
