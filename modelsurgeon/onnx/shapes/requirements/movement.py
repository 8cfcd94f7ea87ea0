"""Operators that move data: elements that are kept, axes that are joined, split or permuted, indices."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.axes import in_range
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    Sizes,
    at_least,
    broadcasts,
    divided_by,
    equal,
    impossible,
    product,
    requires,
    show,
)


@requires("Reshape")
def reshape(op: SizedNode) -> Iterator[Requirement]:
    """As many elements as before."""
    data, out = op.sizes(), op.output()
    target = op.constants(1) if op.has(1) else list(op.integers("shape") or ()) or None
    if data is not None and target is not None:
        yield from _reshaped(op, data, target)
    elif data is not None and out is not None:
        yield equal(product(data), product(out), _elements(data, out))


def _reshaped(op: SizedNode, data: Sizes, target: list[int]) -> Iterator[Requirement]:
    """Requirements of a Reshape to a known shape, in which 0 keeps a size and -1 is what is left."""
    keeps_zeros = bool(op.integer("allowzero"))
    if min(target, default=0) < -1 or target.count(-1) > 1:
        yield impossible(f"no shape is {target}")
        return
    if not keeps_zeros and any(size == 0 and axis >= len(data) for axis, size in enumerate(target)):
        yield impossible(f"its shape {target} keeps an axis that its input of {len(data)} axes doesn't have")
        return
    if keeps_zeros and 0 in target and -1 in target:
        yield impossible(f"its shape {target} has both 0 and -1")
        return
    kept = [data[axis] if size == 0 and not keeps_zeros else size for axis, size in enumerate(target)]
    if -1 not in kept:
        yield equal(product(data), product(kept), _elements(data, kept))
        return
    copied = {axis for axis, size in enumerate(target) if size == 0}
    before = product(size for axis, size in enumerate(data) if axis not in copied)
    after = product(size for axis, size in enumerate(target) if size != -1 and axis not in copied)
    if after != 0 and 0 not in [data[axis] for axis in copied]:
        yield divided_by(before, after, f"its {show(data)} elements can't have the shape {target}")


@requires("Flatten")
def flatten(op: SizedNode) -> Iterator[Requirement]:
    """The axis exists, or is the end."""
    data, axis = op.sizes(), op.integer("axis", 1)
    if data is not None and not -len(data) <= axis <= len(data):
        yield impossible(f"its axis {axis} is outside of its input of {len(data)} axes")


@requires("Concat")
def concat(op: SizedNode) -> Iterator[Requirement]:
    """All axes but the joined one have equal sizes."""
    shapes = [op.sizes(index) for index in range(len(op.node.inputs))]
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return
    first, axis = known[0], op.integer("axis", 1)
    if not -len(first) <= axis < len(first):
        yield impossible(f"its axis {axis} is outside of its input of {len(first)} axes")
        return
    axis %= len(first)
    for shape in known[1:]:
        if shape == (0,):  # empty tensors may have any number of axes
            continue
        yield equal(len(shape), len(first), f"its inputs have {len(first)} and {len(shape)} axes")
        for index, (left, right) in enumerate(zip(shape, first, strict=False)):
            if index != axis:
                yield equal(left, right, f"its inputs have sizes {right} and {left} on axis {index}")


@requires("Split")
def split(op: SizedNode) -> Iterator[Requirement]:
    """The parts add up to the axis."""
    data, axis, outputs = op.sizes(), op.integer("axis"), len(op.node.outputs)
    if data is None:
        return
    if not -len(data) <= axis < len(data):
        yield impossible(f"its axis {axis} is outside of its input of {len(data)} axes")
        return
    size = data[axis]
    parts = op.constants(1) if op.has(1) else op.integers("split")
    if parts is not None:
        whole = sum(parts)
        yield equal(size, whole, f"it splits an axis of {size} into parts of {list(parts)}")
        yield equal(len(parts), outputs, f"it has {len(parts)} parts and {outputs} outputs")
        if min(parts, default=0) < 0:
            yield impossible(f"its parts {list(parts)} have a negative size")
    elif not op.has(1):
        count = op.integer("num_outputs")
        if not count and "num_outputs" not in op.node.attributes:
            yield divided_by(size, outputs, f"an axis of {size} can't be split into {outputs} equal parts")
        elif count < outputs:
            yield impossible(f"num_outputs is {count}, the node has {outputs} outputs")
        else:
            yield at_least(size, count, f"an axis of {size} can't be split into {count} parts")
        if count == outputs > 1 and isinstance(size, int):
            taken = -(-size // count) * (count - 1)  # by all outputs but the last
            yield at_least(size, taken + 1, f"an axis of {size} can't be split into {count} parts")


@requires("Gather")
def gather(op: SizedNode) -> Iterator[Requirement]:
    """Constant indices are inside the axis."""
    yield from _indices(op, op.integer("axis"))


@requires("GatherElements", "ScatterElements", "Scatter")
def gather_elements(op: SizedNode) -> Iterator[Requirement]:
    """Indices with as many axes as the data, and no larger beside the axis."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    data, indices = shapes
    yield equal(len(indices), len(data), f"its indices have {len(indices)} axes, its input {len(data)}")
    if len(indices) != len(data):
        return
    yield from _indices(op, op.integer("axis"))
    axis = op.integer("axis")
    if op.node.op_type != "GatherElements":
        updates = op.sizes(2)
        if updates is not None:
            yield equal(len(updates), len(indices), "its updates and its indices differ in their axes")
            for left, right in zip(updates, indices, strict=False):
                yield equal(left, right, f"its updates have size {left}, its indices {right}")
    if -len(data) <= axis < len(data):
        axis %= len(data)
        for index, (left, right) in enumerate(zip(data, indices, strict=True)):
            if index != axis:
                yield at_least(left, right, f"its indices have size {right} on axis {index} of {left}")


@requires("GatherND", "ScatterND")
def gather_nd(op: SizedNode) -> Iterator[Requirement]:
    """The last axis of the indices addresses no more axes than there are."""
    shapes, batch = op.known(0, 1), op.integer("batch_dims")
    if shapes is None:
        return
    data, indices = shapes
    if not data or not indices:
        yield impossible("its input or its indices are a scalar")
        return
    depth = indices[-1]
    yield at_least(
        len(data) - batch, depth, f"its indices address {depth} axes of an input of {len(data)} axes"
    )
    for left, right in zip(data[:batch], indices[:batch], strict=False):
        yield equal(left, right, f"its batches have sizes {left} and {right}")
    updates = op.sizes(2)
    if op.node.op_type == "ScatterND" and updates is not None and isinstance(depth, int):
        wanted = (*indices[:-1], *data[depth:])
        yield equal(len(updates), len(wanted), f"its updates are {show(updates)}, not {show(wanted)}")
        for left, right in zip(updates, wanted, strict=False):
            yield equal(left, right, f"its updates are {show(updates)}, not {show(wanted)}")
    content = op.constant(1)
    if content is None or not isinstance(depth, int) or not content.size or depth > len(data):
        return
    for position in range(min(depth, len(data) - batch)):
        entries = content[..., position]
        yield from _inside(int(entries.min()), int(entries.max()), data, batch + position)


@requires("Slice")
def slices(op: SizedNode) -> Iterator[Requirement]:
    """The axes exist, and no step is 0."""
    data = op.sizes()
    if data is None:
        return
    starts = op.constants(1) if op.has(1) else op.integers("starts")
    ends = op.constants(2) if op.has(2) else op.integers("ends")
    axes = op.constants(3) if op.has(3) else op.integers("axes")
    steps = op.constants(4)
    if starts is not None and ends is not None and len(starts) != len(ends):
        yield impossible(f"it has {len(starts)} starts and {len(ends)} ends")
    if axes is not None:
        yield from in_range(axes, len(data))
        if len({axis % max(1, len(data)) for axis in axes}) < len(axes):
            yield impossible(f"its axes {list(axes)} name one twice")
        if starts is not None and len(starts) != len(axes):
            yield impossible(f"it has {len(starts)} starts for {len(axes)} axes")
    elif starts is not None and not op.has(3) and len(starts) > len(data):
        yield impossible(f"it has {len(starts)} starts for {len(data)} axes")
    if steps is not None and 0 in steps:
        yield impossible("one of its steps is 0")
    if steps is not None and starts is not None and len(steps) != len(starts):
        yield impossible(f"it has {len(starts)} starts and {len(steps)} steps")


@requires("Squeeze")
def squeeze(op: SizedNode) -> Iterator[Requirement]:
    """The removed axes have a size of 1."""
    data = op.sizes()
    axes = op.constants(1) if op.has(1) else op.integers("axes")
    if data is None or axes is None:
        return
    yield from in_range(axes, len(data))
    for axis in axes:
        if -len(data) <= axis < len(data):
            yield equal(data[axis], 1, f"it removes axis {axis}, which has a size of {data[axis]}")


@requires("Unsqueeze")
def unsqueeze(op: SizedNode) -> Iterator[Requirement]:
    """The new axes are different ones of the output."""
    data = op.sizes()
    axes, sizes = op.constants(1) if op.has(1) else op.integers("axes"), op.sizes(1)
    if sizes is not None:
        yield at_least(1, len(sizes), f"its axes have {len(sizes)} axes, but have to be a vector")
    if data is None or axes is None:
        return
    count = len(data) + len(axes)
    if any(not -count <= axis < count for axis in axes) or len({axis % count for axis in axes}) < len(axes):
        yield impossible(f"its input of {len(data)} axes can't get new axes at {list(axes)}")


@requires("Expand")
def expand(op: SizedNode) -> Iterator[Requirement]:
    """The input broadcasts with the shape."""
    data, target = op.sizes(), op.constants(1)
    if data is None or target is None:
        return
    for left, right in zip(data[::-1], target[::-1], strict=False):
        yield broadcasts(left, right, f"its input has size {left} where its shape {target} has {right}")


@requires("Tile")
def tile(op: SizedNode) -> Iterator[Requirement]:
    """A number of repeats for each axis."""
    data, repeats = op.sizes(), op.sizes(1)
    if data is None or repeats is None or len(op.node.inputs) > 2:
        return
    yield equal(product(repeats), len(data), f"it has {product(repeats)} repeats for {len(data)} axes")
    counts = op.constants(1)
    if counts is not None and min(counts, default=0) < 0:
        yield impossible(f"its repeats {counts} have a negative number")


@requires("Transpose")
def transpose(op: SizedNode) -> Iterator[Requirement]:
    """perm is a permutation of the axes."""
    data, perm = op.sizes(), op.integers("perm")
    if data is not None and perm is not None and sorted(perm) != list(range(len(data))):
        yield impossible(f"perm {list(perm)} is no permutation of {len(data)} axes")


@requires("Pad")
@requires("Pad", domain=MICROSOFT_DOMAIN)
def pad(op: SizedNode) -> Iterator[Requirement]:
    """Two entries for each axis, and no size becomes negative."""
    data = op.sizes()
    pads = op.constants(1) if op.has(1) else op.integers("pads") or op.integers("paddings")
    if data is None or pads is None:
        return
    axes = op.constants(3) if op.has(3) else list(range(len(data)))
    if axes is None:
        return
    if (sizes := op.sizes(1)) is not None and op.constant(1) is not None:
        yield equal(len(sizes), 1, "its pads aren't a vector")
    yield equal(len(pads), 2 * len(axes), f"it has {len(pads)} pads for {len(axes)} axes")
    yield from in_range(axes, len(data))
    if len(pads) != 2 * len(axes) or any(not -len(data) <= axis < len(data) for axis in axes):
        return
    reflected, wrapped = op.text("mode", "constant") == "reflect", op.text("mode") == "wrap"
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        size = data[axis]
        if before + after < 0:
            yield at_least(
                size, -before - after, f"it removes {-before - after} entries of an axis of {size}"
            )
        if reflected and max(before, after) > 0:
            mirrored, removed = max(before, after), -min(before, 0) - min(after, 0)
            yield at_least(
                size, mirrored + removed + 1, f"it reflects {mirrored} entries of an axis of {size}"
            )
        if wrapped and max(before, after) > 0:
            yield at_least(size, max(before, after), f"it wraps {max(before, after)} entries of {size}")


@requires("DepthToSpace")
def depth_to_space(op: SizedNode) -> Iterator[Requirement]:
    """Channels are a multiple of the square of the block."""
    data, block = op.sizes(), op.integer("blocksize", 1)
    if data is None:
        return
    yield equal(len(data), 4, f"its input has {len(data)} axes, not 4")
    if len(data) == 4:
        yield divided_by(data[1], block * block, f"{data[1]} channels can't fill blocks of {block} x {block}")


@requires("SpaceToDepth")
def space_to_depth(op: SizedNode) -> Iterator[Requirement]:
    """Height and width are multiples of the block."""
    data, block = op.sizes(), op.integer("blocksize", 1)
    if data is None:
        return
    yield equal(len(data), 4, f"its input has {len(data)} axes, not 4")
    for size in data[2:4] if len(data) == 4 else ():
        yield divided_by(size, block, f"a side of {size} can't be split into blocks of {block}")


@requires("CenterCropPad")
def center_crop_pad(op: SizedNode) -> Iterator[Requirement]:
    """A size for each axis."""
    data, target, axes = op.sizes(), op.sizes(1), op.integers("axes")
    if data is not None and target is not None and len(target) == 1:
        count = len(data) if axes is None else len(axes)
        yield equal(target[0], count, f"it has {target[0]} sizes for {count} axes")


@requires("OneHot")
def one_hot(op: SizedNode) -> Iterator[Requirement]:
    """Two values, off and on; one depth; indices that aren't a scalar."""
    indices = op.sizes(0)
    if indices is not None:
        yield at_least(len(indices), 1, "its indices are a scalar")
    values, depth = op.sizes(2), op.sizes(1)
    if values is not None:
        yield equal(product(values), 2, f"it has {product(values)} values, not off and on")
    if depth is not None:
        yield equal(product(depth), 1, "its depth isn't one number")


@requires("QLinearConcat", domain=MICROSOFT_DOMAIN)
def quantized_concat(op: SizedNode) -> Iterator[Requirement]:
    """Inputs 2, 5, 8, ... are joined."""
    shapes = [op.sizes(index) for index in range(2, len(op.node.inputs), 3)]
    known = [shape for shape in shapes if shape is not None]
    axis = op.integer("axis")
    if known:
        yield from in_range([axis], len(known[0]))
    for shape in known[1:]:
        first = known[0]
        yield equal(len(shape), len(first), f"its inputs have {len(first)} and {len(shape)} axes")
        for index, (left, right) in enumerate(zip(shape, first, strict=False)):
            if index != axis % max(1, len(first)):
                yield equal(left, right, f"its inputs have sizes {right} and {left} on axis {index}")


def _indices(op: SizedNode, axis: int) -> Iterator[Requirement]:
    data = op.sizes()
    if data is None:
        return
    if not -len(data) <= axis < len(data):
        yield impossible(f"its axis {axis} is outside of its input of {len(data)} axes")
        return
    content = op.constant(1)
    if content is not None and content.size:
        yield from _inside(int(content.min()), int(content.max()), data, axis)


def _inside(smallest: int, largest: int, data: Sizes, axis: int) -> Iterator[Requirement]:
    size = data[axis]
    if largest >= 0:
        yield at_least(size, largest + 1, f"its index {largest} is outside of an axis of {size}")
    if smallest < 0:
        yield at_least(size, -smallest, f"its index {smallest} is outside of an axis of {size}")


def _elements(before: Sizes, after: Sizes) -> str:
    return f"its input has {show(before)} elements, its output {show(after)}"
