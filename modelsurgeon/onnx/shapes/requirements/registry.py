"""Registry of the sizes that operators require, and the node with sizes that a requirement function takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.constant_folding import Array, small_constant

Size = int | ir.SymbolicDim
Sizes = Sequence[Size]

OUTPUT = -1  # the place of the outputs among the inputs whose content was read


class Relation(Enum):
    """How the left size of a requirement has to be related to the right one."""

    EQUAL = "is"
    BROADCASTS = "is equal, or one of both is 1"
    SPREADS = "is equal, or is 1"  # broadcasting in one direction
    AT_LEAST = "is at least"
    DIVIDED_BY = "is a multiple of"

    def holds(self, left: int, right: int) -> bool:
        """Whether two sizes are so related."""
        if left == right:
            return True
        if self is Relation.BROADCASTS:
            return 1 in (left, right)
        if self is Relation.SPREADS:
            return left == 1
        if self is Relation.AT_LEAST:
            return left >= right
        return self is Relation.DIVIDED_BY and right != 0 and left % right == 0


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """Two sizes of one node that have to be related, with the reason in words."""

    relation: Relation
    left: Size
    right: Size
    reason: str

    @property
    def is_open(self) -> bool:
        """Whether it depends on sizes that are open."""
        return not (isinstance(self.left, int) and isinstance(self.right, int))

    @property
    def fails(self) -> bool:
        """Whether both sizes are known and aren't related as they have to be."""
        left, right = self.left, self.right
        return isinstance(left, int) and isinstance(right, int) and not self.relation.holds(left, right)


@dataclass(frozen=True, kw_only=True)
class SizedNode:
    """A node with the sizes of its inputs: all that a requirement may depend on.

    opset: the version of the operator's domain. peeked: the inputs whose constant content was read, and
    OUTPUT if the shape of an output was.
    """

    node: ir.Node
    opset: int
    peeked: set[int] = field(default_factory=set)

    def has(self, index: int) -> bool:
        """Whether an input is given: the optional ones may be left out."""
        inputs = self.node.inputs
        return index < len(inputs) and inputs[index] is not None

    def sizes(self, index: int = 0) -> tuple[Size, ...] | None:
        """Sizes of an input; None where it is left out, or its number of axes is unknown."""
        value = self.node.inputs[index] if self.has(index) else None
        shape = None if value is None else value.shape
        return None if shape is None else shape.dims

    def known(self, *indices: int) -> list[tuple[Size, ...]] | None:
        """Sizes of several inputs; None where one of them is unknown."""
        found = [self.sizes(index) for index in indices]
        return None if None in found else found  # type: ignore[return-value]

    def output(self, index: int = 0) -> tuple[Size, ...] | None:
        """Sizes of an output, as they were inferred; None where unknown."""
        self.peeked.add(OUTPUT)
        outputs = self.node.outputs
        shape = outputs[index].shape if index < len(outputs) else None
        return None if shape is None else shape.dims

    def constant(self, index: int) -> Array | None:
        """The content of a small constant input; None where it is only known when the model runs."""
        self.peeked.add(index)
        return small_constant(self.node.inputs[index]) if self.has(index) else None

    def constants(self, index: int) -> list[int] | None:
        """The integers of a small constant input, or None."""
        array = self.constant(index)
        return None if array is None else [int(entry) for entry in array.ravel()]

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute; `default` where it is left out."""
        return int(self._attribute(name, ir.AttributeType.INT, default))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers; None where it is left out."""
        found = self._attribute(name, ir.AttributeType.INTS, None)
        return None if found is None else tuple(found)

    def text(self, name: str, default: str = "") -> str:
        """A text attribute; `default` where it is left out."""
        value = self._attribute(name, ir.AttributeType.STRING, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def length(self, name: str) -> int | None:
        """Number of elements of an attribute that is a list; None where it is left out."""
        attr = self.node.attributes.get(name)
        return None if attr is None or attr.is_ref() else len(attr.value)

    def _attribute(self, name: str, kind: ir.AttributeType, default: Any) -> Any:  # noqa: ANN401
        attr = self.node.attributes.get(name)
        return default if attr is None or attr.is_ref() or attr.type != kind else attr.value


RequirementFunction = Callable[[SizedNode], Iterable[Requirement]]

REQUIREMENTS: dict[tuple[str, str], list[RequirementFunction]] = {}


def requires(*ops: str, domain: str = "") -> Callable[[RequirementFunction], RequirementFunction]:
    """Register a function that yields what operators of a domain require. An operator may have several."""

    def register(function: RequirementFunction) -> RequirementFunction:
        for op in ops:
            REQUIREMENTS.setdefault((domain, op), []).append(function)
        return function

    return register


def functions_of(node: ir.Node) -> Sequence[RequirementFunction]:
    """The requirement functions of a node's operator."""
    return REQUIREMENTS.get(("" if node.domain in STANDARD_DOMAINS else node.domain, node.op_type), ())


def requirements(sized: SizedNode) -> Iterator[Requirement]:
    """What a node requires of its sizes, without what is fulfilled by writing both sizes alike."""
    for function in functions_of(sized.node):
        for requirement in function(sized):
            left, right = requirement.left, requirement.right
            if requirement.fails or (requirement.is_open and left != right):
                yield requirement


def equal(left: Size, right: Size, reason: str) -> Requirement:
    """Both sizes are the same."""
    return Requirement(relation=Relation.EQUAL, left=left, right=right, reason=reason)


def broadcasts(left: Size, right: Size, reason: str) -> Requirement:
    """Both sizes are the same, or one is 1."""
    return Requirement(relation=Relation.BROADCASTS, left=left, right=right, reason=reason)


def spreads(left: Size, right: Size, reason: str) -> Requirement:
    """The left size is that of the right, or 1."""
    return Requirement(relation=Relation.SPREADS, left=left, right=right, reason=reason)


def at_least(left: Size, right: Size, reason: str) -> Requirement:
    """The left size is no smaller than the right."""
    return Requirement(relation=Relation.AT_LEAST, left=left, right=right, reason=reason)


def divided_by(left: Size, right: Size, reason: str) -> Requirement:
    """The left size is a multiple of the right."""
    return Requirement(relation=Relation.DIVIDED_BY, left=left, right=right, reason=reason)


def axes_count(sizes: Sizes, wanted: int, name: str) -> Requirement:
    """An input has so many axes."""
    return equal(len(sizes), wanted, f"{name} has {len(sizes)} axes, not {wanted}")


def least_axes(sizes: Sizes, wanted: int, name: str) -> Requirement:
    """An input has no fewer axes."""
    return at_least(len(sizes), wanted, f"{name} has {len(sizes)} axes, fewer than {wanted}")


def impossible(reason: str) -> Requirement:
    """A requirement that no size fulfils."""
    return Requirement(relation=Relation.EQUAL, left=0, right=1, reason=reason)


def product(sizes: Iterable[Size]) -> Size:
    """Product of sizes."""
    number, symbols = 1, None
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            symbols = size if symbols is None else symbols * size
    return number if symbols is None or number == 0 else symbols if number == 1 else symbols * number


def show(sizes: Sizes) -> str:
    """Sizes as text, such as `2 x N x 4`."""
    return " x ".join(map(str, sizes)) if sizes else "a scalar"
