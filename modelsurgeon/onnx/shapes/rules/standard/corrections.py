"""Corrections of onnx_shape_inference's rules for standard operators."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.rules.parts import integers
from modelsurgeon.onnx.shapes.rules.registration import correct_rule


def register() -> None:
    """Add the corrections to the registry."""
    correct_rule("ConvTranspose", _end_with_the_kernel)
    correct_rule("Squeeze", _clear_if_dynamic)


def _end_with_the_kernel(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Shorten the result of a ConvTranspose under SAME padding whose kernel is smaller than its stride.

    The library has as many positions as strides; onnxruntime adds none behind the last tap.
    """
    data, weight, result = node.inputs[0], node.inputs[1], node.outputs[0].shape
    is_same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    if not is_same or "output_shape" in node.attributes or result is None:
        return
    if data is None or data.shape is None or weight is None or weight.shape is None:
        return
    dims, axes = list(result), result.rank() - 2
    strides, dilations = (integers(node, name) or [1] * axes for name in ("strides", "dilations"))
    added = integers(node, "output_padding") or [0] * axes
    for axis, (size, taps) in enumerate(zip(data.shape.dims[2:], weight.shape.dims[2:], strict=True)):
        if isinstance(taps, int):
            window = dilations[axis] * (taps - 1) + 1 + added[axis]
            dims[axis + 2] = size * strides[axis] - max(0, strides[axis] - window)
    node.outputs[0].shape = ir.Shape(dims)


def _clear_if_dynamic(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Clear the output shape of a Squeeze whose axes are only known at run time."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is not None and ctx.get_symbolic_value(axes) is None:
        node.outputs[0].shape = None
