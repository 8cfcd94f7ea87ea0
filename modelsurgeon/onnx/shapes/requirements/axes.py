"""Axes that exist: of reductions, softmax, sorting and other operators along axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    at_least,
    equal,
    impossible,
    requires,
)

DEFAULT_AXES = {"TopK": -1, "LpNormalization": -1, "Hardmax": -1, "Softmax": -1, "LogSoftmax": -1}
REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
# Inputs of one axis: axes, sizes, repeats.
VECTOR_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(REDUCTIONS, (1,)),
    **dict.fromkeys(("Squeeze", "Reshape", "Split", "Tile", "TopK", "CenterCropPad"), (1,)),
    "Slice": (1, 2, 3, 4),
    "OneHot": (2,),
    "Col2Im": (1, 2),
}


@requires("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "LpNormalization", "TopK")
def along_one_axis(op: SizedNode) -> Iterator[Requirement]:
    """The axis exists."""
    data = op.sizes()
    if data is not None:
        yield from in_range([op.integer("axis", DEFAULT_AXES.get(op.node.op_type, 0))], len(data))


@requires(*REDUCTIONS)
def reduced(op: SizedNode) -> Iterator[Requirement]:
    """The reduced axes exist."""
    data = op.sizes()
    axes = op.constants(1) if op.has(1) else op.integers("axes")
    if data is not None and axes is not None:
        yield from in_range(axes, len(data))


@requires(*VECTOR_INPUTS)
def vectors(op: SizedNode) -> Iterator[Requirement]:
    """Axes, sizes and repeats are vectors."""
    if op.node.op_type == "Tile" and len(op.node.inputs) > 2:  # opset 1: one axis, and how often
        return
    for index in VECTOR_INPUTS[op.node.op_type]:
        sizes = op.sizes(index)
        if sizes is not None and len(sizes) != 1:
            yield impossible(f"its input {index} has {len(sizes)} axes, but has to be a vector")


@requires("CumSum", "CumProd")
def accumulated(op: SizedNode) -> Iterator[Requirement]:
    """The axis exists."""
    data, axes = op.sizes(), op.constants(1)
    if data and axes is not None:
        yield from in_range(axes, len(data))


@requires("TopK")
def largest_entries(op: SizedNode) -> Iterator[Requirement]:
    """No more entries than the axis has."""
    data, axis = op.sizes(), op.integer("axis", -1)
    count = op.constants(1) if op.has(1) else [op.integer("k", 1)]
    if count is not None and len(count) != 1:
        yield impossible(f"its number of entries has {len(count)} values, not 1")
    elif data and -len(data) <= axis < len(data) and count is not None:
        size = data[axis]
        if count[0] < 0:
            yield impossible(f"it takes {count[0]} entries")
        yield at_least(size, count[0], f"it takes {count[0]} entries of an axis of {size}")


@requires("Compress", "Unique")
def flattened_or_along(op: SizedNode) -> Iterator[Requirement]:
    """The axis exists, if there is one."""
    data = op.sizes()
    if data is not None and "axis" in op.node.attributes:
        yield from in_range([op.integer("axis")], len(data))


@requires("ReverseSequence")
def reversed_sequences(op: SizedNode) -> Iterator[Requirement]:
    """A length for each sequence of the batch."""
    shapes, axis = op.known(0, 1), op.integer("batch_axis", 1)
    if shapes is None:
        return
    data, lengths = shapes
    if not 0 <= axis < len(data) or len(data) < 2:
        yield impossible(f"its batch axis {axis} is outside of its input of {len(data)} axes")
        return
    yield equal(len(lengths), 1, f"its lengths have {len(lengths)} axes, not 1")
    if len(lengths) == 1:
        yield equal(lengths[0], data[axis], f"it has {lengths[0]} lengths for a batch of {data[axis]}")
    content, time = op.constants(1), op.integer("time_axis")
    if content and 0 <= time < len(data):
        yield at_least(data[time], max(content), f"a length is {max(content)}, of {data[time]} steps")
        yield at_least(min(content), 0, "one of its lengths is negative")


@requires("Trilu")
def triangle(op: SizedNode) -> Iterator[Requirement]:
    """Matrices."""
    data = op.sizes()
    if data is not None:
        yield at_least(len(data), 2, f"its input has {len(data)} axes, fewer than 2")


def in_range(axes: Iterable[int], count: int) -> Iterator[Requirement]:
    """Axes of an input with so many axes."""
    for axis in axes:
        if not -count <= axis < count:
            yield impossible(f"its axis {axis} is outside of its input of {count} axes")
