"""Shape rules of loops, in the place of the library's: states that grow, and conditions that are left out."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.loops import final_state, stacked_shape
from modelsurgeon.onnx.shapes.rules.registration import replace_rule


def register() -> None:
    """Add the rules to the registry."""
    replace_rule("Loop", _loop)


def _loop(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """States as after the last iteration, then results of all iterations, stacked."""
    body = node.attributes.get_graph("body", None)
    if body is None:
        return
    states = len(node.inputs) - 2
    for index, output in enumerate(node.outputs):
        if index + 1 >= len(body.outputs):
            break
        if index < states:
            final_state(ctx, node, body, index)
        else:
            result = body.outputs[index + 1]
            ctx.set_shape_and_dtype(output, stacked_shape(ctx, node, body, result), result.dtype)
