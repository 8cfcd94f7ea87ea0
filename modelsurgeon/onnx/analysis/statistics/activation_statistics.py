"""Statistics of a graph's activations over data: every floating-point output of a node outside loops.

They are collected in groups that fit in memory, one pass over the data for each group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.data import Batches
from modelsurgeon.inspection.statistics.activation import ActivationPlace, ActivationSums, Bounds
from modelsurgeon.inspection.statistics.activations import Activations
from modelsurgeon.onnx import run
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.statistics.inline_branches import BranchPath, branch_path
from modelsurgeon.onnx.costs import is_free
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.progress import Progress

GROUP_BYTES = 256 * 2**20  # bytes of the activations collected in one pass over the data
ASSUMED_BYTES = 16 * 2**20  # bytes of an activation of unknown size
MAX_BRANCHES_NAMED = 3  # branches that a note names
FLOATING_TYPES = frozenset({"FLOAT", "FLOAT16", "DOUBLE"})

# Operators with channels on the second axis of their output, on the last one, and those that move axes. All
# others keep the channel axis of their input.
CHANNELS_SECOND = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization"}
)
CHANNELS_LAST = frozenset(
    (
        "MatMul",
        "Gemm",
        "LayerNormalization",
        "RMSNormalization",
        "SkipLayerNormalization",
        "LSTM",
        "GRU",
        "RNN",
    )
)
AXIS_MOVING = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather", "Concat", "Expand"}
)

SATURATION_MARGIN = 0.01  # distance to its bound within which a smooth non-linearity counts as saturated
SMOOTH_BOUNDS = {
    "Sigmoid": Bounds(low=0.0, high=1.0, margin=SATURATION_MARGIN),
    "Tanh": Bounds(low=-1.0, high=1.0, margin=SATURATION_MARGIN),
    "HardSigmoid": Bounds(low=0.0, high=1.0),
    "HardSwish": Bounds(low=0.0, high=None),
}


@dataclass(frozen=True, kw_only=True)
class ObservedActivation:
    """An activation to collect: the name of its tensor, the layer that computes it, and its bytes."""

    tensor: str
    place: ActivationPlace
    bytes: int


def collect_activation_statistics(
    model: ir.Model, data: Batches, *, provider: str = "cpu", watch: Progress | None = None
) -> Activations:
    """Statistics of every activation over the data.

    Activations are collected in groups of about `GROUP_BYTES` bytes a feed, with one pass over the data each.
    Branches are those that the first feed takes. Raises BadData where the model can't run on the data, or
    another feed takes other branches.
    """
    first = next(iter(data))
    taken_path = branch_path(model, first, provider=provider)
    measured = bound(taken_path.model, {each.name: first[each.name].shape for each in run.inputs(model)})
    groups = list(_groups(list(_observed_activations(measured))))
    runs = len(groups) * len(data)
    results: list[ActivationSums] = []
    for number, group in enumerate(groups):
        group_sums = {activation.tensor: ActivationSums(place=activation.place) for activation in group}
        runner = run.runner(
            taken_path.model, outputs=[*group_sums, *taken_path.conditions], provider=provider
        )
        for done, feed in enumerate(data):
            if watch:
                watch("activations", number * len(data) + done, runs)
            found = runner(feed)
            taken_path.check(found)
            for tensor, sums in group_sums.items():
                sums.add(found[tensor])
        results += group_sums.values()
    return Activations(
        places=[sums.result() for sums in results],
        samples=data.samples,
        notes=[*_branch_notes(taken_path), *_loop_notes(measured), *_data_notes(data)],
    )


def _observed_activations(model: ir.Model) -> Iterator[ObservedActivation]:
    """Floating-point outputs of the main graph's nodes; constants and free operators are left out."""
    constants = constant_values(model)
    for node in model.graph:
        value = next((out for out in node.outputs if out.name), None)
        if value is None or value in constants or is_free(node) or value.dtype is None:
            continue
        if value.dtype.name in FLOATING_TYPES and isinstance(value.type, ir.TensorType):
            shape = sizes(value)
            place = ActivationPlace(
                layer=str(node.name),
                op=node.op_type,
                dtype=dtype_name(value) or "",
                axis=_channel_axis(node),
                bounds=bounds(node),
            )
            size = ASSUMED_BYTES if shape is None else prod(shape) * value.dtype.bitwidth // 8
            yield ObservedActivation(tensor=str(value.name), place=place, bytes=size)


def _groups(observed: Sequence[ObservedActivation]) -> Iterator[list[ObservedActivation]]:
    group: list[ObservedActivation] = []
    for activation in observed:
        if group and sum(other.bytes for other in group) + activation.bytes > GROUP_BYTES:
            yield group
            group = []
        group.append(activation)
    if group:
        yield group


def bounds(node: ir.Node) -> Bounds | None:
    """Bounds of a node's output: of Clip and of non-linearities that saturate; None for other operators."""
    if node.domain:
        return None
    if node.op_type != "Clip":
        return SMOOTH_BOUNDS.get(node.op_type)
    ends: Mapping[str, float | None] = {
        name: _clip_limit(node, index, name) for index, name in ((1, "min"), (2, "max"))
    }
    return Bounds(low=ends["min"], high=ends["max"])


def _clip_limit(node: ir.Node, index: int, name: str) -> float | None:
    """A limit of Clip: an input from opset 11 on, an attribute before; None where it isn't constant."""
    if name in node.attributes:
        return node.attributes[name].as_float()
    found = scalar_constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if found is None else float(found)


def _channel_axis(node: ir.Node) -> int | None:
    """Channel axis of a node's output: that of the last layer before it.

    Where there is none, or axes were moved since: 1 for outputs of two or four axes, else None.
    """
    current: ir.Node | None = node
    while current is not None and current.op_type not in AXIS_MOVING:
        if current.op_type in CHANNELS_SECOND:
            return 1
        if current.op_type in CHANNELS_LAST:
            return -1
        source = next((value for value in current.inputs if value is not None), None)
        current = None if source is None else source.producer()
    shape = sizes(node.outputs[0])
    return 1 if shape is not None and len(shape) in (2, 4) else None


def _loop_notes(model: ir.Model) -> list[str]:
    inside = sum(1 for graph in model.graph.subgraphs() for _ in graph)
    return [f"{inside} nodes inside loop bodies aren't measured"] if inside else []


def _branch_notes(taken_path: BranchPath) -> list[str]:
    """A note on the branches whose activations are measured."""
    taken = ", ".join(
        f"{name}: {branch}" for name, branch in list(taken_path.taken.items())[:MAX_BRANCHES_NAMED]
    )
    others = (
        f" and {len(taken_path.taken) - MAX_BRANCHES_NAMED} more"
        if len(taken_path.taken) > MAX_BRANCHES_NAMED
        else ""
    )
    return [f"branches that the data take: {taken}{others}"] if taken else []


def _data_notes(data: Batches) -> list[str]:
    return [data.note] if data.note else []
