"""Transposes around elementwise nodes, taken away on both sides.

An elementwise function gives the same numbers in any order of the axes:

    transpose(f(transpose(x))) = f(x)    where the two orders undo each other

The nodes between are a region: connected elementwise nodes, all of whose data come from Transposes of one
order, and all of whose outputs go into Transposes of the opposite one. Its constants are transposed instead.
Exporters of nets with channels last write one Transpose before and one after every convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.no_ops import Shape, ValueTypes, transpose_order
from modelsurgeon.onnx.graph.randomness import dropout_mode
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import BINARY, UNARY

BROADCASTING_OPSET = 7  # the opset from which on constants are broadcast from the last axis
ELEMENTWISE = UNARY | BINARY


@dataclass(kw_only=True)
class _Region:
    """Elementwise nodes between Transposes. order: of the axes in the Transposes after it.

    before, after: these Transposes. constants: the places of constants, as (node, index among its inputs).
    """

    order: tuple[int, ...]
    nodes: list[ir.Node] = field(default_factory=list)
    before: dict[ir.Value, ir.Node] = field(default_factory=dict)
    after: list[ir.Node] = field(default_factory=list)
    constants: list[tuple[ir.Node, int]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, eq=False)
class TransposedRegions:
    """The regions of a model's graphs. shapes: of all values; changed with the order of their axes."""

    context: PassContext
    types: ValueTypes
    shapes: dict[ir.Value, Shape]

    def collapse(self, graph: ir.Graph, may_remove: Callable[[ir.Node], bool]) -> Iterator[ir.Node]:
        """Take the Transposes around every region away; those after it, which are removed."""
        if graph is not self.context.graph or self.types.opset < BROADCASTING_OPSET:
            return
        for node in list(graph):
            if node.graph is None or node.op_type != "Transpose" or node.domain:
                continue
            region = self._region_before(node)
            if region is not None and all(map(may_remove, region.after)):
                self._rewrite(region)
                yield from region.after

    def _region_before(self, last: ir.Node) -> _Region | None:
        """The region that ends in a Transpose; None where there is none, or an edge of it is no Transpose."""
        order = transpose_order(last, self.types)
        first = None if last.inputs[0] is None else last.inputs[0].producer()
        if order is None or first is None or first.op_type == "Transpose":
            return None
        region = _Region(order=tuple(order))
        pending, seen = [first], {first}
        while pending:
            node = pending.pop()
            neighbors = self._neighbors(region, node)
            if neighbors is None:
                return None
            region.nodes.append(node)
            pending += [other for other in neighbors if other not in seen]
            seen.update(neighbors)
        return region if region.before else None

    def _neighbors(self, region: _Region, node: ir.Node) -> list[ir.Node] | None:
        """The elementwise nodes next to a node of the region; None where the region can't hold it."""
        if not self._is_elementwise(node, len(region.order)):
            return None
        producers, users = self._producers(region, node), self._users(region, node)
        return None if producers is None or users is None else [*producers, *users]

    def _producers(self, region: _Region, node: ir.Node) -> list[ir.Node] | None:
        """The nodes of the region that a node reads; None where one of its data comes from elsewhere."""
        found: list[ir.Node] = []
        for place, value in enumerate(_data(node)):
            producer = None if value is None else value.producer()
            if constant_array(value) is not None:
                region.constants.append((node, place))
            elif value is None or producer is None or producer.graph is not node.graph:
                return None
            elif self._undoes(producer, region.order):
                region.before[value] = producer
            else:
                found.append(producer)
        return found

    def _users(self, region: _Region, node: ir.Node) -> list[ir.Node] | None:
        """The nodes of the region that read a node's output; None where it is used elsewhere."""
        output = node.outputs[0]
        found: list[ir.Node] = []
        if output.is_graph_output():
            return None
        for user, place in output.uses():
            if user.graph is not node.graph or place >= len(_data(user)):
                return None
            if not self._has_order(user, region.order):
                found.append(user)
            elif user.outputs[0].is_graph_output():
                return None
            elif user not in region.after:
                region.after.append(user)
        return found

    def _has_order(self, node: ir.Node, order: tuple[int, ...]) -> bool:
        """Whether a node is a Transpose to that order of the axes."""
        transposes = node.op_type == "Transpose" and not node.domain
        return transposes and tuple(transpose_order(node, self.types) or ()) == order

    def _is_elementwise(self, node: ir.Node, ndim: int) -> bool:
        """Whether a node works on each element by itself, on values of that many axes."""
        if node.domain or node.op_type not in ELEMENTWISE or len(node.outputs) > 1:
            return False
        if node.op_type == "Dropout" and dropout_mode(node, self.types.opset) != "inference":
            return False
        data = [value for value in _data(node) if value is not None and constant_array(value) is None]
        return bool(data) and all(
            (shape := self.types.shape(value)) is not None and len(shape) == ndim
            for value in (*data, node.outputs[0])
        )

    def _undoes(self, node: ir.Node, order: Sequence[int]) -> bool:
        """Whether a node is a Transpose that an order of the axes undoes."""
        plain = node.op_type == "Transpose" and not node.domain
        own = transpose_order(node, self.types) if plain else None
        return own is not None and len(own) == len(order) and [own[axis] for axis in order] == sorted(own)

    def _rewrite(self, region: _Region) -> None:
        for node, place in region.constants:
            self._transpose_constant(node, place, region.order)
        for node in region.nodes:
            for place, value in enumerate(node.inputs):
                if value in region.before:
                    node.replace_input_with(place, region.before[value].inputs[0])
            output = node.outputs[0]
            shape = self.shapes[output]
            self.shapes[output] = [shape[axis] for axis in region.order]
            declared = output.shape
            if declared is not None and len(declared) == len(region.order):
                output.shape = ir.Shape([declared[axis] for axis in region.order])
        for node in region.after:
            source = node.inputs[0]
            if source is not None:
                ir.convenience.replace_all_uses_with(node.outputs[0], source)
            if node.graph is not None:
                node.graph.remove(node, safe=True)

    def _transpose_constant(self, node: ir.Node, place: int, order: Sequence[int]) -> None:
        """Transpose a constant operand, after leading axes of size 1 are added to it."""
        value = node.inputs[place]
        array = constant_array(value)
        if value is None or array is None or (array.size == 1 and array.ndim <= 1):
            return
        whole = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
        node.replace_input_with(place, self.context.store(f"{value.name}.transposed", np.asarray(whole)))


def _data(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs that an elementwise node works on; the others are parameters, such as bounds."""
    return node.inputs[:1] if node.op_type in UNARY else node.inputs
