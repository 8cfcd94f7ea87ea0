"""Shape rules of loops and branches: states that grow, and sizes that depend on a condition."""

from __future__ import annotations

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import taken_branch
from modelsurgeon.onnx.shapes.conditions import branch_condition
from modelsurgeon.onnx.shapes.dimensions import Condition, Dim, as_dim, expression_of
from modelsurgeon.onnx.shapes.loops import final_state, stacked_shape
from modelsurgeon.onnx.shapes.rules.registration import correct_rule, replace_rule


def register() -> None:
    """Add the rules to the registry."""
    replace_rule("Loop", _loop)
    correct_rule("If", _choose_sizes)


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


def _choose_sizes(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the outputs of an If the sizes of the branch it takes, if that is known or follows from sizes."""
    if (taken := taken_branch(node)) is not None:
        for output, end in zip(node.outputs, taken.outputs, strict=False):
            output.shape, output.type = end.shape, end.type
        return
    branches = [node.attributes.get_graph(name, None) for name in ("then_branch", "else_branch")]
    condition = branch_condition(node)
    if condition is None or None in branches:
        return
    for output, *ends in zip(node.outputs, *(branch.outputs for branch in branches if branch), strict=False):
        first, second = (end.shape for end in ends)
        if output.shape is not None and first is not None and second is not None:
            pairs = zip(first, second, strict=True)
            output.shape = ir.Shape([_chosen(condition, *pair) for pair in pairs])


def _chosen(condition: Condition, first: Dim, second: Dim) -> Dim:
    """The first size where the condition is met, else the second."""
    if first == second:
        return first
    expressions = expression_of(first), expression_of(second)
    if None in expressions:
        return ir.SymbolicDim(None)
    return as_dim(sympy.Piecewise((expressions[0], condition), (expressions[1], True)))
