"""What is known of the tensors in a sequence: their number, their shapes, and sums of their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.dimensions import Dim, product_of, sum_of

ELEMENTS_KEY = "modelsurgeon.elements"  # value.meta: the Elements of a sequence
MAX_LISTED_ELEMENTS = 1024

Sizes = tuple[Dim | None, ...]


@dataclass(frozen=True, kw_only=True)
class Elements:
    """The tensors in a sequence; what isn't known is None.

    length: number of elements. shape: sizes that all elements have. totals: sum of the elements' sizes along
    each axis. each: the shape of every element. unset: whether the sequence started empty, so that its shape
    is that of what is inserted.
    """

    length: Dim | None = None
    shape: Sizes | None = None
    totals: Sizes | None = None
    each: tuple[Sizes, ...] | None = None
    unset: bool = False

    @classmethod
    def listed(cls, shapes: Sequence[Sizes | None]) -> Elements:
        """Elements of these shapes."""
        known = [shape for shape in shapes if shape is not None]
        if not shapes or len(known) < len(shapes) or len({len(shape) for shape in known}) > 1:
            return cls(length=len(shapes), each=None if shapes else ())
        totals = known[0]
        common = known[0]
        for shape in known[1:]:
            totals = tuple(map(sum_of, totals, shape))
            common = in_common(common, shape)
        each = tuple(known) if len(known) <= MAX_LISTED_ELEMENTS else None
        return cls(length=len(known), shape=common, totals=totals, each=each)

    @classmethod
    def equal(cls, shape: Sizes, length: Dim | None) -> Elements:
        """`length` elements of one shape."""
        if isinstance(length, int) and length <= MAX_LISTED_ELEMENTS:
            return cls.listed([shape] * length) if length > 0 else cls(length=0, each=())
        return cls(length=length, shape=shape, totals=tuple(product_of(size, length) for size in shape))

    @property
    def is_empty(self) -> bool:
        """Whether there is surely no element."""
        return self.length == 0

    def inserted(self, shape: Sizes | None, position: int | None) -> Elements:
        """The elements and one more. position: its index; None where it is unknown."""
        if self.each is not None and (position is not None or not self.each or set(self.each) == {shape}):
            listed: list[Sizes | None] = list(self.each)
            listed.insert(0 if position is None else position, shape)
            return Elements.listed(listed)
        length = sum_of(self.length, 1)
        if self.unset and self.shape is None and shape is not None:
            return Elements(length=length, shape=shape)
        if shape is None or self.shape is None or len(shape) != len(self.shape):
            return Elements(length=length)
        totals = None if self.totals is None else tuple(map(sum_of, self.totals, shape))
        return Elements(length=length, shape=in_common(self.shape, shape), totals=totals)

    def erased(self, position: int | None) -> Elements:
        """The elements without one. position: its index; None where it is unknown."""
        if self.each and (position is not None or len(set(self.each)) == 1):
            listed: list[Sizes | None] = list(self.each)
            index = position or 0
            if -len(listed) <= index < len(listed):
                del listed[index]
                return Elements.listed(listed)
        length = sum_of(self.length, -1)
        if self.shape is None:
            return Elements(length=length)
        totals = (
            None
            if self.totals is None
            else tuple(sum_of(total, size, -1) for total, size in zip(self.totals, self.shape, strict=True))
        )
        return Elements(length=length, shape=self.shape, totals=totals)

    def at(self, position: Dim | None) -> Sizes | None:
        """Shape of the element at an index."""
        if self.each and isinstance(position, int) and -len(self.each) <= position < len(self.each):
            return self.each[position]
        return self.shape

    def joined(self, other: Elements) -> Elements:
        """What holds for both sequences."""
        if self == other:
            return self
        shape = None
        if self.is_empty or other.is_empty:
            shape = other.shape if self.is_empty else self.shape
        elif self.shape is not None and other.shape is not None and len(self.shape) == len(other.shape):
            shape = in_common(self.shape, other.shape)
        return Elements(length=self.length if self.length == other.length else None, shape=shape)


def in_common(first: Sizes, second: Sizes) -> Sizes:
    """The sizes that two shapes of one rank share, None where they differ."""
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))


def elements(value: ir.Value | None) -> Elements:
    """What is known of the elements of a sequence."""
    if value is None:
        return Elements()
    found: Elements | None = value.meta.get(ELEMENTS_KEY)
    if found is not None:
        return found
    return Elements() if value.shape is None else Elements(shape=sizes_in(value.shape))


def sizes_in(shape: ir.Shape | None) -> Sizes | None:
    """The sizes of a shape; None for those without a name."""
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) or dim.value is not None else None for dim in shape)


def set_elements(
    ctx: ShapeInferenceContext, value: ir.Value, found: Elements, element: ir.TypeProtocol | None = None
) -> None:
    """Record what is known of a sequence. element: the type of its elements, where it is known."""
    if element is not None and not isinstance(value.type, ir.SequenceType):
        value.type = ir.SequenceType(element)
    value.meta[ELEMENTS_KEY] = found
    value.shape = None if found.shape is None else named(ctx, found.shape)


def named(ctx: ShapeInferenceContext, sizes: Sizes) -> ir.Shape:
    """A shape in which the unknown sizes have new symbols."""
    return ir.Shape([ctx.new_symbolic_dim() if size is None else size for size in sizes])
