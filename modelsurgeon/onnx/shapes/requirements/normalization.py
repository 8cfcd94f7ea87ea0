"""Normalizations: a scale, a bias and statistics for each channel or feature."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    axes_count,
    divided_by,
    equal,
    impossible,
    least_axes,
    product,
    requires,
    spreads,
)


@requires("BatchNormalization")
def batch_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Four vectors, with a value for each channel."""
    if op.integer("spatial", 1):
        yield from _per_channel(op, range(1, 5))


@requires("InstanceNormalization")
def instance_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Scale and bias for each channel."""
    data = op.sizes()
    if data is not None:
        yield least_axes(data, 3, "its input")
    yield from _per_channel(op, range(1, 3))


@requires("GroupNormalization")
def group_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Channels in groups; before opset 21 scale and bias are for each group."""
    data, groups = op.sizes(), op.integer("num_groups")
    if data is None or len(data) < 2:
        return
    if groups < 1:
        yield impossible(f"it has {groups} groups")
        return
    yield divided_by(data[1], groups, f"{data[1]} channels can't be split into {groups} groups")
    wanted, unit = (data[1], "channels") if op.opset >= 21 else (groups, "groups")
    for index in (1, 2):
        sizes = op.sizes(index)
        if sizes is not None and len(sizes) == 1:
            yield equal(sizes[0], wanted, f"its scale or bias has {sizes[0]} values for {wanted} {unit}")


@requires("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Scale and bias broadcast to the axes that are normalized."""
    data = op.sizes()
    if data is None:
        return
    axis = op.integer("axis", -1)
    if not -len(data) <= axis < len(data):
        yield impossible(f"its axis {axis} is outside of its input of {len(data)} axes")
        return
    axis %= len(data)
    for index, name in ((1, "scale"), (2, "bias")):
        sizes = op.sizes(index)
        for left, right in zip((sizes or ())[::-1], data[axis:][::-1], strict=False):
            yield spreads(left, right, f"its {name} has {left} values where {right} are normalized")


@requires("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT_DOMAIN)
def skip_layer_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Vectors over the last axis, after a skip is added."""
    data, skip = op.sizes(0), op.sizes(1)
    if data is None or len(data) not in (2, 3):
        if data is not None:
            yield impossible(f"its input has {len(data)} axes, neither 2 nor 3")
        return
    if skip is not None:
        for left, right in zip(skip[::-1], data[::-1], strict=False):
            last = left is skip[-1]
            text = f"its skip has size {left} where its input has {right}"
            yield equal(left, right, text) if last else spreads(left, right, text)
    simple = op.node.op_type == "SkipSimplifiedLayerNormalization"
    for index in (2, 3) if simple else (2, 3, 4):
        yield from _vector(op, index, data[-1])


@requires("EmbedLayerNormalization", domain=MICROSOFT_DOMAIN)
def embed_layer_normalization(op: SizedNode) -> Iterator[Requirement]:
    """Three tables of one width."""
    ids, words = op.sizes(0), op.sizes(2)
    if words is None or len(words) != 2:
        return
    for index in (3, 4):
        table = op.sizes(index)
        if table is not None and len(table) == 2:
            yield equal(table[1], words[1], f"its tables have widths {table[1]} and {words[1]}")
    for index in (5, 6):
        yield from _vector(op, index, words[1])
    segments = op.sizes(1)
    for left, right in zip(segments or (), ids or (), strict=False):
        yield equal(left, right, f"its segment ids have size {left}, its input ids {right}")


@requires("GroupNorm", "SkipGroupNorm", domain=MICROSOFT_DOMAIN)
def fused_group_norm(op: SizedNode) -> Iterator[Requirement]:
    """Channels in groups; they are last unless channels_last is 0."""
    data, groups = op.sizes(), op.integer("groups")
    if data is None or len(data) != 4 or groups < 1:
        return
    channels = data[3] if op.integer("channels_last", 1) else data[1]
    yield divided_by(channels, groups, f"{channels} channels can't be split into {groups} groups")
    for index in (1, 2):
        yield from _vector(op, index, channels)


@requires("LRN")
def local_response(op: SizedNode) -> Iterator[Requirement]:
    """A window over channels."""
    data = op.sizes()
    if data is not None and len(data) < 2:
        yield impossible(f"its input has {len(data)} axes, fewer than 2")


def _per_channel(op: SizedNode, indices: range) -> Iterator[Requirement]:
    data = op.sizes()
    if data is None or not data:
        return
    channels = data[1] if len(data) > 1 else 1
    for index in indices:
        yield from _vector(op, index, channels, "channels")


def _vector(op: SizedNode, index: int, wanted: Size, unit: str = "features") -> Iterator[Requirement]:
    sizes = op.sizes(index)
    if sizes is None:
        return
    name = str(op.node.inputs[index].name) if op.has(index) else ""  # type: ignore[union-attr]
    yield axes_count(sizes, 1, f"its parameter {name!r}")
    count = product(sizes)
    yield equal(wanted, count, f"its input has {wanted} {unit}, its parameter {name!r} {count}")
