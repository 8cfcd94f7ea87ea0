"""Activations of a graph over data: each floating result outside of loops, in groups that fit in memory."""

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
from modelsurgeon.onnx.analysis.inline_branches import BranchPath, path
from modelsurgeon.onnx.costs import is_free
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.progress import Progress

GROUP_BYTES = 256 * 2**20  # bytes of the activations that are held at a time
ASSUMED_BYTES = 16 * 2**20  # bytes of one whose size isn't known
MAX_BRANCHES_NAMED = 3  # branches that a note names
FLOATING_TYPES = frozenset({"FLOAT", "FLOAT16", "DOUBLE"})

# Of these, channels are the second axis; of those, the last one. What is between keeps them where they are.
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

SATURATION_MARGIN = 0.01  # how close to its bound a smooth non-linearity counts as saturated
SMOOTH_BOUNDS = {
    "Sigmoid": Bounds(low=0.0, high=1.0, margin=SATURATION_MARGIN),
    "Tanh": Bounds(low=-1.0, high=1.0, margin=SATURATION_MARGIN),
    "HardSigmoid": Bounds(low=0.0, high=1.0),
    "HardSwish": Bounds(low=0.0, high=None),
}


@dataclass(frozen=True, kw_only=True)
class WatchedActivation:
    """An activation that is watched: its tensor, where it arises, and how many bytes it takes."""

    tensor: str
    place: ActivationPlace
    bytes: int


def collect_activation_statistics(
    model: ir.Model, data: Batches, *, provider: str = "cpu", watch: Progress | None = None
) -> Activations:
    """What every activation is over the data. Memory: one feed's activations, `GROUP_BYTES` bytes at a time.

    Each group is a run over all of the data. Branches are followed as the first feed takes them. Raises
    BadData where the model can't run on the data, or another feed takes other branches.
    """
    first = next(iter(data))
    way = path(model, first, provider=provider)
    measured = bound(way.model, {name: array.shape for name, array in first.items()})
    groups = list(_groups(list(_taps(measured))))
    runs = len(groups) * len(data)
    tallies: list[ActivationSums] = []
    for number, group in enumerate(groups):
        own = {tap.tensor: ActivationSums(place=tap.place) for tap in group}
        runner = run.runner(way.model, outputs=[*own, *way.conditions], provider=provider)
        for done, feed in enumerate(data):
            if watch:
                watch("activations", number * len(data) + done, runs)
            found = runner(feed)
            way.check(found)
            for tensor, tally in own.items():
                tally.add(found[tensor])
        tallies += own.values()
    return Activations(
        places=[tally.result() for tally in tallies],
        samples=data.samples,
        notes=[*_followed(way), *_notes(measured), *_data_notes(data)],
    )


def _taps(model: ir.Model) -> Iterator[WatchedActivation]:
    """The floating results of the main graph's nodes that compute something."""
    fixed = constant_values(model)
    for node in model.graph:
        value = next((out for out in node.outputs if out.name), None)
        if value is None or value in fixed or is_free(node) or value.dtype is None:
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
            yield WatchedActivation(tensor=str(value.name), place=place, bytes=size)


def _groups(taps: Sequence[WatchedActivation]) -> Iterator[list[WatchedActivation]]:
    group: list[WatchedActivation] = []
    for tap in taps:
        if group and sum(each.bytes for each in group) + tap.bytes > GROUP_BYTES:
            yield group
            group = []
        group.append(tap)
    if group:
        yield group


def bounds(node: ir.Node) -> Bounds | None:
    """What the results of a node can't pass."""
    if node.domain:
        return None
    if node.op_type != "Clip":
        return SMOOTH_BOUNDS.get(node.op_type)
    ends: Mapping[str, float | None] = {
        name: _end(node, index, name) for index, name in ((1, "min"), (2, "max"))
    }
    return Bounds(low=ends["min"], high=ends["max"])


def _end(node: ir.Node, index: int, name: str) -> float | None:
    """An input from opset 11 on, an attribute before."""
    if name in node.attributes:
        return node.attributes[name].as_float()
    found = scalar_constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if found is None else float(found)


def _channel_axis(node: ir.Node) -> int | None:
    """The axis of the channels: as the last layer before has them; None where axes were moved since."""
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


def _notes(model: ir.Model) -> list[str]:
    inside = sum(1 for graph in model.graph.subgraphs() for _ in graph)
    return [f"{inside} nodes inside loop bodies aren't watched"] if inside else []


def _followed(way: BranchPath) -> list[str]:
    """Which branches were looked into."""
    taken = ", ".join(f"{name}: {branch}" for name, branch in list(way.taken.items())[:MAX_BRANCHES_NAMED])
    more = f" and {len(way.taken) - MAX_BRANCHES_NAMED} more" if len(way.taken) > MAX_BRANCHES_NAMED else ""
    return [f"branches that the data take: {taken}{more}"] if taken else []


def _data_notes(data: Batches) -> list[str]:
    return [data.note] if data.note else []
