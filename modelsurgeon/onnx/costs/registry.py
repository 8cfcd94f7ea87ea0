"""Registry of cost functions, and the node with shapes that a cost function takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.report.formatting import shape

Shape = tuple[Number, ...]
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Why a node's cost isn't known.

    macs: whether the operator may have MACs, too. missing_shape: whether only the size of a value is missing.
    """

    reason: str
    macs: bool = field(default=True, compare=False)
    missing_shape: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class ShapedNode:
    """A node with the shapes of its inputs and outputs: all that a cost may depend on.

    shape_of: the shape of a value, in numbers or symbolic expressions; None where it is unknown.
    peeked: indices of the inputs whose constant content was read; `constant` adds to it.
    """

    node: ir.Node
    shape_of: ShapeOf
    peeked: list[int] = field(default_factory=list)

    @property
    def signature(self) -> Hashable:
        """A key, equal for nodes of equal cost unless the content of constants makes a difference."""
        node = self.node
        values = (*node.inputs, None, *node.outputs)
        return (
            (node.domain, node.op_type, len(node.inputs)),
            attribute_values(node),
            tuple([None if value is None else self.shape_of(value) or value.dtype for value in values]),
        )

    def constant(self, index: int) -> tuple[int, ...] | None:
        """The integers of a small constant input; None where they are only known when the model runs."""
        self.peeked.append(index)
        array = small_constant(self.node.inputs[index]) if self.has(index) else None
        return None if array is None else tuple(int(entry) for entry in array.ravel())

    def has(self, index: int) -> bool:
        """Whether an input is given: the optional ones may be left out."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input; raises UnknownShape."""
        return self._known(self.node.inputs[index] if self.has(index) else None, f"input {index}")

    def out(self, index: int = 0) -> Shape:
        """Shape of an output; raises UnknownShape."""
        outputs = self.node.outputs
        return self._known(outputs[index] if index < len(outputs) else None, f"output {index}")

    def knows_out(self, index: int) -> bool:
        """Whether an output is used and its shape is known."""
        outputs = self.node.outputs
        return (
            index < len(outputs) and bool(outputs[index].name) and self.shape_of(outputs[index]) is not None
        )

    @property
    def elements(self) -> Number:
        """Elements of the first output; raises UnknownShape."""
        return prod(self.out())

    @property
    def elements_in(self) -> Number:
        """Elements of the first input; raises UnknownShape."""
        return prod(self.shape())

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute; `default` where it is left out."""
        return int(self._attribute(name, ir.AttributeType.INT, default))

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of integers; `()` where it is left out."""
        return tuple(self._attribute(name, ir.AttributeType.INTS, ()))

    def length(self, name: str) -> int:
        """Number of elements of an attribute that is a list; 0 where it is left out."""
        attr = self.node.attributes.get(name)
        return 0 if attr is None or attr.is_ref() else len(attr.value)

    def text(self, name: str, default: str = "") -> str:
        """A text attribute; `default` where it is left out."""
        value = self._attribute(name, ir.AttributeType.STRING, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def _attribute(self, name: str, kind: ir.AttributeType, default: Any) -> Any:  # noqa: ANN401
        attr = self.node.attributes.get(name)
        return default if attr is None or attr.is_ref() or attr.type != kind else attr.value

    def _known(self, value: ir.Value | None, place: str) -> Shape:
        shape = None if value is None else self.shape_of(value)
        if shape is None:
            raise UnknownShape(f"the shape of {place} is unknown")
        return shape


CostFunction = Callable[[ShapedNode], "Cost | Uncounted"]

COSTS: dict[tuple[str, str], CostFunction] = {}


def counts(*ops: str, domain: str = "") -> Callable[[CostFunction], CostFunction]:
    """Register a function as the cost of operators of a domain. Raises ValueError if one already has a cost.

    The function takes a ShapedNode and returns the Cost of one run of it. Where the cost isn't known, it
    returns Uncounted, or `ShapedNode.shape` raises UnknownShape. The cost depends on shapes and attributes
    alone; constants are read with `ShapedNode.constant`.

    >>> @counts("MyOp", domain="my.domain")
    ... def my_op(op):
    ...     return Cost(macs=op.elements_in * op.integer("taps", 3))
    """

    def register(function: CostFunction) -> CostFunction:
        for op in ops:
            if (domain, op) in COSTS:
                raise ValueError(f"the cost of {domain or 'ai.onnx'}::{op} is already defined")
            COSTS[domain, op] = function
        return function

    return register


def moves(operation: ShapedNode) -> Cost:  # noqa: ARG001
    """No cost: data is moved, named or cast."""
    return Cost()


def is_free(node: ir.Node) -> bool:
    """Whether a node is registered as free of operations."""
    return COSTS.get(_operator_key(node)) is moves


def cost_of(operation: ShapedNode) -> Cost | Uncounted:
    """Cost of one run of a node, or the reason why it isn't known. Subgraphs don't count."""
    node = operation.node
    function = COSTS.get(_operator_key(node))
    if function is None:
        return Uncounted(reason="no cost is defined for this operator: define one with modelsurgeon.counts")
    try:
        return function(operation)
    except UnknownShape as error:
        return Uncounted(reason=str(error), missing_shape=True)
    except (IndexError, ValueError):  # axes that don't fit the operator's definition
        input_shapes = [operation.shape_of(value) for value in node.inputs if value is not None]
        return Uncounted(reason=f"its inputs don't fit the operator: their shapes are {shape(input_shapes)}")


def _operator_key(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain in STANDARD_DOMAINS else node.domain, node.op_type)
