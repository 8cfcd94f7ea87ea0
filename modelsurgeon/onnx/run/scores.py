"""Scores behind the outputs of a model: the inputs of a final sigmoid or softmax.

Where these saturate, outputs stay as they are while the scores change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from modelsurgeon.calibration.output_errors import centred
from modelsurgeon.layers import Array
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.run.execute import runner
from modelsurgeon.surgery.site import Run

SIGMOIDS = frozenset({"Sigmoid", "HardSigmoid"})
SOFTMAXES = frozenset({"Softmax", "LogSoftmax"})
# Between such an operator and the output; they move elements or change their type.
MOVING_OPERATORS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
SOFTMAX_OF_ONE_AXIS = 13  # before this opset, a softmax was over its axis and all behind it


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A tensor of scores. axis: of the softmax that takes them; None for a sigmoid. joint: and all behind."""

    tensor: str
    axis: int | None = None
    joint: bool = False

    def read(self, array: Array) -> Array:
        """The scores in the tensor, those of a softmax about their mean."""
        if self.axis is None or not array.ndim:
            return array
        axis = self.axis % array.ndim
        return centred(array, tuple(range(axis, array.ndim)) if self.joint else (axis,))


def score_runner(model: ir.Model, *, provider: str = "cpu") -> Run:
    """A function that runs the model and returns the scores where an output has some, else the output."""
    found = final_scores(model)
    run = runner(model, outputs=[scores.tensor for scores in found.values()], provider=provider)
    names = [str(value.name) for value in model.graph.outputs]

    def scored(feed: Mapping[str, Array]) -> dict[str, Any]:
        values = run(feed)
        return {
            name: found[name].read(values[found[name].tensor]) if name in found else values[name]
            for name in names
        }

    return scored


def final_scores(model: ir.Model) -> dict[str, Scores]:
    """The scores behind each output that is that of a sigmoid or softmax, by the name of the output."""
    opset = model.opset_imports.get("", 1)
    found = ((str(value.name), _scores_behind(value, opset)) for value in model.graph.outputs)
    return {name: scores for name, scores in found if scores is not None}


def _scores_behind(value: ir.Value, opset: int) -> Scores | None:
    node = value.producer()
    if node is None or node.domain not in STANDARD_DOMAINS or not node.inputs:
        return None
    first = node.inputs[0]
    if first is None or first.producer() is None:  # a graph input needs no run, and is no layer's output
        return None
    if node.op_type in MOVING_OPERATORS:
        return _scores_behind(first, opset)
    if node.op_type in SIGMOIDS:
        return Scores(tensor=str(first.name))
    if node.op_type in SOFTMAXES:
        joint = opset < SOFTMAX_OF_ONE_AXIS
        axis = node.attributes.get_int("axis", 1 if joint else -1)
        return Scores(tensor=str(first.name), axis=axis, joint=joint)
    return None
