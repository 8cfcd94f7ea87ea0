"""Affine maps of channels, each a batch norm or a run of nodes with constants that does the same.

Exporters of nets with channels last write a norm as a subtraction, a multiplication and an addition, with one
constant per channel on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array
from modelsurgeon.layers.batchnorm import Affine
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import is_op, keeps_type

SCALING = ("Mul", "Div")
SHIFTING = ("Add", "Sub")


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelAffine:
    """An affine map of channels. x: the value that it maps. nodes: in order. axis: of the channels."""

    name: str
    x: ir.Value
    nodes: Sequence[ir.Node]
    axis: int
    affine: Affine


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    """A node of a run. constant: with as many axes as the data; None for a node that changes nothing."""

    node: ir.Node
    x: ir.Value
    constant: Array | None
    reversed: bool = False


def scale_runs(context: PassContext) -> Iterator[ChannelAffine]:
    """The runs of the main graph that multiply or divide by one constant per channel."""
    seen: set[ir.Node] = set()
    for node in list(context.graph):
        if node in seen or not is_op(node, SCALING) or (own := _step(context, node)) is None:
            continue
        axis = _axis(own)
        if axis is None or own.constant is None or context.skip_reason(context.names[node]) is not None:
            continue
        steps = _run(context, own, axis)
        seen.update(step.node for step in steps)
        affine = _composed(steps, own.constant.size)
        if np.isfinite([affine.gain, affine.offset]).all():
            yield ChannelAffine(
                name=context.names[node],
                x=steps[0].x,
                nodes=[step.node for step in steps],
                axis=axis,
                affine=affine,
            )


def _run(context: PassContext, own: _Step, axis: int) -> list[_Step]:
    """The steps around one, in order, whose constants have one axis and whose values have no other uses."""
    steps = [own]
    while (step := _step(context, steps[0].x.producer())) is not None and _continues(step, axis):
        steps.insert(0, step)
    while (user := _only_user(steps[-1].node.outputs[0])) is not None:
        step = _step(context, user)
        if step is None or not _continues(steps[-1], axis) or _axis(step) not in (axis, None):
            break
        steps.append(step)
    while steps[-1].constant is None:
        steps.pop()
    return steps


def _continues(step: _Step, axis: int) -> bool:
    return _only_user(step.node.outputs[0]) is not None and _axis(step) in (axis, None)


def _only_user(value: ir.Value) -> ir.Node | None:
    users = [node for node, _ in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _step(context: PassContext, node: ir.Node | None) -> _Step | None:
    """The node as a step; None for any other node, and where its constant isn't one number per channel."""
    if node is None or node.graph is not context.graph or not node.inputs or node.inputs[0] is None:
        return None
    if is_op(node, ("Identity",)) or keeps_type(context, node):
        return _Step(node=node, x=node.inputs[0], constant=None)
    return _step_with_constant(context, node) if is_op(node, (*SCALING, *SHIFTING)) else None


def _step_with_constant(context: PassContext, node: ir.Node) -> _Step | None:
    arrays = [constant_array(value) for value in node.inputs]
    computed = [value for value, array in zip(node.inputs, arrays, strict=True) if array is None]
    if len(computed) != 1 or (x := computed[0]) is None or "axis" in node.attributes:
        return None
    constant, ndim = next(array for array in arrays if array is not None), context.ndim(x)
    place = node.inputs.index(x)
    if ndim is None or ndim != context.ndim(node.outputs[0]) or (place == 1 and node.op_type == "Div"):
        return None
    whole = constant.reshape((1,) * (ndim - constant.ndim) + constant.shape)
    per_channel = constant.dtype.kind not in "iub" and max(whole.shape, default=1) == whole.size
    return _Step(node=node, x=x, constant=whole, reversed=place == 1) if per_channel else None


def _axis(step: _Step) -> int | None:
    """The axis along which the step's constant differs; None where it is a single number."""
    if step.constant is None or step.constant.size == 1:
        return None
    return int(np.argmax(step.constant.shape))


def _composed(steps: Sequence[_Step], channels: int) -> Affine:
    """The steps as one map."""
    gain, offset = np.ones(channels), np.zeros(channels)
    for step in steps:
        if step.constant is None:
            continue
        number = step.constant.astype(np.float64).reshape(-1)
        if step.node.op_type in SCALING:
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = number if step.node.op_type == "Mul" else 1 / number
                gain, offset = gain * factor, offset * factor
        elif step.node.op_type == "Add":
            offset = offset + number
        else:
            sign = -1 if step.reversed else 1
            gain, offset = sign * gain, sign * (offset - number)
    return Affine(gain=gain, offset=offset)
