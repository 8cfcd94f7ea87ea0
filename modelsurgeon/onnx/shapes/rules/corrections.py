"""Corrections of onnx_shape_inference's rules for standard operators."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.rules.registration import correct_rule


def register() -> None:
    """Add the corrections to the registry."""
    correct_rule("Split", _clear_if_dynamic)
    correct_rule("Squeeze", _clear_if_dynamic)


def _clear_if_dynamic(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Clear the output shapes of a Split or Squeeze whose sizes or axes are only known at run time."""
    sizes_or_axes = node.inputs[1] if len(node.inputs) > 1 else None
    if sizes_or_axes is not None and ctx.get_symbolic_value(sizes_or_axes) is None:
        for output in node.outputs:
            output.shape = None
