"""Corrections of onnx_shape_inference's rules for standard operators."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.rules.registration import correct_rule


def register() -> None:
    """Add the corrections to the registry."""
    correct_rule("Squeeze", _clear_if_dynamic)


def _clear_if_dynamic(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Clear the output shape of a Squeeze whose axes are only known at run time."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is not None and ctx.get_symbolic_value(axes) is None:
        node.outputs[0].shape = None
