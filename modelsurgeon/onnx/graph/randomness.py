"""Randomness: operators that give other values at every run, and dropout, which does so in training mode.

Source: ONNX operator specification, Dropout of opset 1, 6, 7, 10, 12, 13 and 22.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.traversal import graphs

RANDOM_OPERATORS = frozenset(
    {
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        *("RandomUniformLike", "BiasDropout", "BitmaskBiasDropout", "BitmaskDropout", "Sampling"),
    }
)
DEFAULT_RATIO = 0.5
FIRST_INFERENCE_OPSET = 7  # before, an attribute tells training from inference; from 12 on, an input may

DropoutMode = Literal["training", "inference", "unknown"]


def is_dropout(node: ir.Node) -> bool:
    """Whether the node is the standard Dropout."""
    return node.op_type == "Dropout" and node.domain in STANDARD_DOMAINS


def dropout_mode(node: ir.Node, opset: int) -> DropoutMode:
    """Whether a Dropout zeroes values: not in inference, nor where its ratio is 0.

    The mode is unknown where training_mode is computed at run time or from an input that a caller sets.
    """
    if dropout_ratio(node) == 0:
        return "inference"
    if opset < FIRST_INFERENCE_OPSET:
        return "inference" if node.attributes.get_int("is_test", 0) else "training"
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    if flag is None:
        return "inference"
    training = _fixed_constant(flag)
    if training is None:
        return "unknown"
    return "training" if training else "inference"


def dropout_ratio(node: ir.Node) -> float | None:
    """The share of values that a Dropout zeroes; None where it isn't constant."""
    if "ratio" in node.attributes:
        return node.attributes.get_float("ratio", DEFAULT_RATIO)
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return DEFAULT_RATIO
    ratio = _fixed_constant(node.inputs[1])
    return None if ratio is None else float(ratio)


def _fixed_constant(value: ir.Value) -> int | float | bool | None:
    """The one element of a constant; None where it depends on a graph input, if only on its size."""
    pending, seen = [value], set[ir.Value]()
    while pending:
        at = pending.pop()
        if at.is_graph_input():
            return None
        if at not in seen and (node := at.producer()) is not None:
            pending += [each for each in node.inputs if each is not None]
        seen.add(at)
    return scalar_constant(value)


def draws(node: ir.Node, opset: int) -> bool:
    """Whether the node itself, apart from its subgraphs, may give other values at every run."""
    return node.op_type in RANDOM_OPERATORS or (is_dropout(node) and dropout_mode(node, opset) != "inference")


def random_operators(model: ir.Model) -> list[str]:
    """Operator and name of every node that may give other values at every run, bodies included."""
    opset = model.opset_imports.get("", 1)
    return [
        f"{node.op_type} {str(node.name or node.outputs[0].name)!r}"
        for graph in graphs(model)
        for node in graph
        if draws(node, opset)
    ]
