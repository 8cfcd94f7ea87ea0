"""Convolutions: channels, groups, kernels, bias, and maps no smaller than the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    Sizes,
    at_least,
    axes_count,
    divided_by,
    equal,
    impossible,
    least_axes,
    product,
    requires,
)
from modelsurgeon.onnx.shapes.requirements.windows import listed_lengths, maps, window_fits


@requires("Conv", "ConvInteger")
@requires("FusedConv", "NhwcConv", "NhwcFusedConv", domain=MICROSOFT_DOMAIN)
def conv(op: SizedNode) -> Iterator[Requirement]:
    """Weight (out, in / group, *kernel)."""
    yield from _convolution(op, 0, 1)
    if op.node.op_type != "ConvInteger":
        yield from _bias(op, 2, 1, 0)
    else:
        weight = op.sizes(1)
        for index, wanted in ((2, 1), (3, weight[0] if weight else 1)):
            if (zero := op.sizes(index)) is not None:
                yield from _one_or(zero, wanted, "its zero point")
    if op.node.op_type.endswith("FusedConv") and (added := op.sizes(3)) is not None:
        out = op.output()
        if out is not None and len(added) == len(out):
            for left, right in zip(added, out, strict=True):
                yield equal(left, right, f"it adds a map with size {left} where its own has {right}")


@requires("QLinearConv")
@requires("QLinearConv", domain=MICROSOFT_DOMAIN)
def qlinear_conv(op: SizedNode) -> Iterator[Requirement]:
    """Conv of quantized tensors: the weight is input 3, its scale has one value or one per channel."""
    yield from _convolution(op, 0, 3)
    yield from _bias(op, 8, 3, 0)
    weight = op.sizes(3)
    for index, name in ((4, "its scale of the weight"), (5, "its zero point of the weight")):
        sizes = op.sizes(index)
        if weight is not None and sizes is not None and weight:
            yield from _one_or(sizes, weight[0], name)
    for index in (1, 2, 6, 7):
        sizes = op.sizes(index)
        if sizes is not None:
            yield equal(product(sizes), 1, "a scale or zero point of a whole tensor has one value")


@requires("ConvTranspose")
def conv_transpose(op: SizedNode) -> Iterator[Requirement]:
    """Weight (in, out / group, *kernel)."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    data, weight = shapes
    yield least_axes(data, 3, "its input")
    yield axes_count(weight, len(data), "its weight")
    if len(data) != len(weight) or len(data) < 3:
        return
    group, spatial = op.integer("group", 1), len(data) - 2
    yield equal(data[1], weight[0], f"its input has {data[1]} channels, its weight takes {weight[0]}")
    if group < 1:
        yield impossible(f"it has {group} groups")
        return
    yield divided_by(data[1], group, f"{data[1]} channels can't be split into {group} groups")
    yield from _kernel(op, weight)
    yield from listed_lengths(op, spatial)
    yield from _spread(op, data[2:], weight[2:])
    bias = op.sizes(2)
    if bias is not None:
        channels = product((weight[1], group))
        yield axes_count(bias, 1, "its bias")
        if len(bias) == 1:
            yield equal(bias[0], channels, f"its bias has {bias[0]} values for {channels} channels")


def _spread(op: SizedNode, sizes: Sizes, kernel: Sizes) -> Iterator[Requirement]:
    """Maps of a ConvTranspose: none is empty, and none ends more than a stride behind the last tap."""
    axes = len(sizes)
    strides, dilations = (op.integers(name) or (1,) * axes for name in ("strides", "dilations"))
    added, wanted = op.integers("output_padding"), op.integers("output_shape")
    for name, listed in (("output_padding", added), ("output_shape", wanted)):
        if listed is not None:
            yield equal(len(listed), axes, f"{name} has {len(listed)} entries for {axes} axes")
    if len(strides) != axes or len(dilations) != axes:
        return
    for entry, stride in zip(added or (), strides, strict=False):
        yield at_least(stride - 1, entry, f"its output_padding of {entry} isn't below its stride of {stride}")
    for axis, given in enumerate(wanted if wanted is not None and len(wanted) == axes else ()):
        largest = sizes[axis] * strides[axis] + dilations[axis] * (kernel[axis] - 1)
        yield at_least(largest, given, f"its output_shape has {given} positions where {largest} are reached")
    for size in (op.output() or ())[2:]:
        yield at_least(size, 1, f"its padding leaves {size} positions along a side of its output")


@requires("DeformConv")
def deform_conv(op: SizedNode) -> Iterator[Requirement]:
    """Conv whose taps are moved by offsets (batch, 2 * offset_group * taps, *map)."""
    yield from _convolution(op, 0, 1)
    yield from _bias(op, 3, 1, 0)
    shapes, out = op.known(1, 2), op.output()
    if shapes is None:
        return
    weight, offset = shapes
    yield axes_count(offset, len(weight), "its offset")
    if len(weight) < 3 or len(weight) != len(offset):
        return
    groups = op.integer("offset_group", 1)
    wanted = product((2, groups, *weight[2:]))
    yield equal(offset[1], wanted, f"its offset has {offset[1]} channels, not {wanted}")
    moves = [("offset", offset)]
    if (mask := op.sizes(4)) is not None and len(mask) >= 3:
        wanted = product((groups, *weight[2:]))
        yield equal(mask[1], wanted, f"its mask has {mask[1]} channels, not {wanted}")
        moves.append(("mask", mask))
    data = op.sizes(0)
    for name, sizes in moves:
        if data is not None:
            yield equal(sizes[0], data[0], f"its {name} has a batch of {sizes[0]}, its input of {data[0]}")
        for left, right in zip(sizes[2:], (out or ())[2:], strict=False):
            yield equal(left, right, f"its {name} has size {left} where its output has {right}")
    if data is not None and len(data) > 1:
        yield divided_by(data[1], groups, f"{data[1]} channels can't be split into {groups} offset groups")


def _convolution(op: SizedNode, data_index: int, weight_index: int) -> Iterator[Requirement]:
    shapes = op.known(data_index, weight_index)
    if shapes is None:
        return
    data, weight = shapes
    yield least_axes(data, 3, "its input")
    yield axes_count(weight, len(data), "its weight")
    if len(data) != len(weight) or len(data) < 3:
        return
    group = op.integer("group", 1)
    if group < 1:
        yield impossible(f"it has {group} groups")
        return
    found = maps(op, data_index)
    if found is None:
        return
    channels, sizes = found
    taken = product((weight[1], group))
    each = f" ({group} groups of {weight[1]})" if group > 1 else ""
    yield equal(channels, taken, f"its input has {channels} channels, its weight takes {taken}{each}")
    yield divided_by(weight[0], group, f"{weight[0]} output channels can't be split into {group} groups")
    yield from _kernel(op, weight)
    yield from listed_lengths(op, len(sizes))
    yield from window_fits(op, sizes, weight[2:])


def _kernel(op: SizedNode, weight: Sizes) -> Iterator[Requirement]:
    kernel = op.integers("kernel_shape")
    if kernel is None:
        return
    spatial = weight[2:]
    reason = f"kernel_shape is {list(kernel)}, its weight has a kernel of {show_kernel(spatial)}"
    yield equal(len(kernel), len(spatial), reason)
    for left, right in zip(spatial, kernel, strict=False):
        yield equal(left, right, reason)


def show_kernel(sizes: Sequence[Size]) -> str:
    """Kernel sizes as text."""
    return " x ".join(map(str, sizes))


def _bias(op: SizedNode, bias_index: int, weight_index: int, axis: int) -> Iterator[Requirement]:
    shapes = op.known(bias_index, weight_index)
    if shapes is None or len(shapes[1]) <= axis:
        return
    bias, weight = shapes
    yield axes_count(bias, 1, "its bias")
    if len(bias) == 1:
        yield equal(bias[0], weight[axis], f"its bias has {bias[0]} values for {weight[axis]} channels")


def _one_or(sizes: Sizes, wanted: Size, name: str) -> Iterator[Requirement]:
    """One value, or as many as wanted."""
    count = product(sizes)
    if count != 1:
        yield equal(count, wanted, f"{name} has {count} values, neither 1 nor {wanted}")
