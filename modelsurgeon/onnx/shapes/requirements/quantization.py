"""Quantization: scales and zero points for a tensor, an axis or blocks."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    Sizes,
    equal,
    impossible,
    product,
    requires,
)


@requires("QuantizeLinear", "DequantizeLinear")
@requires("QuantizeLinear", "DequantizeLinear", domain=MICROSOFT_DOMAIN)
def scales(op: SizedNode) -> Iterator[Requirement]:
    """One scale, or one for each entry of an axis, or one for each block of it."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    data, scale = shapes
    zero = op.sizes(2)
    if zero is not None:
        if max(len(zero), len(scale)) > 1:
            yield equal(len(zero), len(scale), "its scale and its zero point have different numbers of axes")
        elif len(zero) != len(scale):
            yield equal(product(zero), product(scale), "its scale and its zero point differ in their sizes")
        for left, right in zip(zero, scale, strict=False):
            yield equal(left, right, f"it has {right} scales and {left} zero points")
    block, axis = op.integer("block_size"), op.integer("axis", 1)
    if block:
        yield from _blocks(data, scale, axis, block)
        return
    if product(scale) == 1 and len(scale) < 2:
        return
    yield equal(len(scale), 1, f"its scale has {len(scale)} axes, more than 1")
    if not -len(data) <= axis < len(data):
        yield impossible(f"its axis {axis} is outside of its input of {len(data)} axes")
    elif len(scale) == 1:
        yield equal(data[axis], scale[0], f"it has {scale[0]} scales for {data[axis]} entries of axis {axis}")


def _blocks(data: Sizes, scale: Sizes, axis: int, block: int) -> Iterator[Requirement]:
    if len(data) != len(scale) or not -len(data) <= axis < len(data):
        yield impossible("its scale doesn't have the axes of its input, as blocks need")
        return
    axis %= len(data)
    for index, (size, count) in enumerate(zip(data, scale, strict=True)):
        if index != axis:
            yield equal(size, count, f"it has {count} scales for {size} entries of axis {index}")
        elif isinstance(size, int):
            blocks = -(-size // block)
            yield equal(count, blocks, f"it has {count} scales for {blocks} blocks of {block}")
