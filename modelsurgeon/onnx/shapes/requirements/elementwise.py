"""Elementwise operators: operands that broadcast to one shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    Sizes,
    axes_count,
    broadcasts,
    equal,
    requires,
    spreads,
)


@requires("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "Where", "And", "Or", "Xor")
@requires("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
@requires("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def broadcasting(op: SizedNode) -> Iterator[Requirement]:
    """Aligned at their last axes, the sizes of all operands are equal or 1."""
    if "broadcast" in op.node.attributes:  # before opset 7, with an axis of its own
        return
    yield from broadcast([op.sizes(index) for index in range(len(op.node.inputs))])


@requires("QLinearAdd", "QLinearMul", domain=MICROSOFT_DOMAIN)
def quantized_broadcasting(op: SizedNode) -> Iterator[Requirement]:
    """Operands are inputs 0 and 3."""
    yield from broadcast([op.sizes(0), op.sizes(3)])


@requires("PRelu")
def slopes(op: SizedNode) -> Iterator[Requirement]:
    """The slope broadcasts to the input."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    data, slope = shapes
    for left, right in zip(slope[::-1], data[::-1], strict=False):
        yield spreads(left, right, f"its slope has size {left} where its input has {right}")


@requires("BiasGelu", "FastGelu", "BiasAdd", domain=MICROSOFT_DOMAIN)
def bias(op: SizedNode) -> Iterator[Requirement]:
    """A bias along the last axis."""
    shapes = op.known(0, 1)
    if shapes is None or not shapes[0]:
        return
    data, added = shapes
    yield axes_count(added, 1, "its bias")
    if len(added) == 1:
        yield equal(added[0], data[-1], f"its bias has {added[0]} values for {data[-1]} features")


def broadcast(shapes: Sequence[Sizes | None]) -> Iterator[Requirement]:
    """All known shapes broadcast to one."""
    known = [shape for shape in shapes if shape is not None]
    for number, first in enumerate(known):
        for second in known[number + 1 :]:
            if first == second:
                continue
            for left, right in zip(first[::-1], second[::-1], strict=False):
                if left not in (right, 1) and right != 1:
                    yield broadcasts(left, right, f"its operands have sizes {left} and {right} on one axis")
