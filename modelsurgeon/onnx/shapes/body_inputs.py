"""Types and shapes of the inputs of bodies: those of the node's inputs, whatever the file declares."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.loops import bind_loop
from modelsurgeon.onnx.shapes.sequence_elements import Sizes, elements, named, sizes_in


def bind_bodies(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the inputs of a node's body their types and shapes."""
    body = node.attributes.get_graph("body", None)
    if body is None or node.domain:
        return
    if node.op_type == "Loop":
        bind_loop(ctx, node, body)
    elif node.op_type == "Scan":
        _bind_scan(ctx, node, body)
    elif node.op_type == "SequenceMap":
        _bind_map(ctx, node, body)


def scan_inputs(node: ir.Node, body: ir.Graph) -> list[ir.Value | None]:
    """The states and scanned inputs of a Scan, in the order of its body's inputs.

    Scan of opset 8 has the lengths of the scanned inputs before them.
    """
    return list(node.inputs[max(len(node.inputs) - len(body.inputs), 0) :])


def is_batched_scan(node: ir.Node, body: ir.Graph) -> bool:
    """Whether a Scan is one of opset 8, whose states and scanned inputs have the batch as first axis."""
    return len(node.inputs) > len(body.inputs)


def scan_axes(node: ir.Node, body: ir.Graph) -> list[int]:
    """The axis along which each scanned input is taken apart."""
    count = node.attributes.get_int("num_scan_inputs", 1)
    axes = node.attributes.get_ints("scan_input_axes", None) or ()
    return [1] * count if is_batched_scan(node, body) else list(axes) or [0] * count


def _bind_scan(ctx: ShapeInferenceContext, node: ir.Node, body: ir.Graph) -> None:
    """States pass as they are, scanned inputs lose the axis along which they are taken apart."""
    axes = scan_axes(node, body)
    states = len(body.inputs) - len(axes)
    for index, (value, source) in enumerate(zip(body.inputs, scan_inputs(node, body), strict=False)):
        if source is None or (sizes := sizes_in(source.shape)) is None:
            continue
        if index >= states:
            axis = axes[index - states] % len(sizes)
            sizes = (*sizes[:axis], *sizes[axis + 1 :])
        _bind(ctx, value, sizes[1:] if is_batched_scan(node, body) else sizes, source.dtype)


def _bind_map(ctx: ShapeInferenceContext, node: ir.Node, body: ir.Graph) -> None:
    """The body of a SequenceMap takes an element of every sequence, and other inputs as they are."""
    for value, source in zip(body.inputs, node.inputs, strict=False):
        if source is None:
            continue
        is_sequence = isinstance(source.type, ir.SequenceType)
        sizes = elements(source).shape if is_sequence else sizes_in(source.shape)
        if sizes is not None:
            _bind(ctx, value, sizes, source.dtype)


def _bind(ctx: ShapeInferenceContext, value: ir.Value, sizes: Sizes, dtype: ir.DataType | None) -> None:
    value.shape = named(ctx, sizes)
    if value.dtype is None and dtype is not None:
        value.dtype = dtype
