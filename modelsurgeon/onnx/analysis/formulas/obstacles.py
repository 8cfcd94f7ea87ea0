"""Why a total has no formula: the first node, in file order, whose cost or size isn't known at open sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.memory import CONTAINER_TYPES, activations
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.costs import Shape, Uncounted
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.onnx.shapes.bound_model import followed_values, open_unknown

MADE_OF_SIZES = frozenset({"ConstantOfShape", "Range"})  # all their inputs are sizes
MAX_SIZES = 16  # elements of a tensor that may hold sizes

# A node with open sizes, and the same node at the default sizes.
RunPairs = Sequence[tuple[NodeRun, NodeRun]]


def counted_activations(measured: MeasuredModel) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The activations of the main graph with open sizes, each with the same value at the default sizes."""
    opened, fixed, constants = measured.symbolic, measured.fully_bound, measured.contents.constants
    yield from zip(data_inputs(opened), data_inputs(fixed), strict=True)
    counterpart = _counterparts(opened, fixed)
    for value in activations(fixed.graph, constants):
        yield counterpart.get(value, value), value


def _counterparts(opened: ir.Model, fixed: ir.Model) -> dict[ir.Value, ir.Value]:
    """Values with open sizes by the same values at fixed ones; empty where both are one model."""
    if opened is fixed:
        return {}
    pairs = zip(opened.graph, fixed.graph, strict=True)
    return {b: a for one, other in pairs for a, b in zip(one.outputs, other.outputs, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """Finds what stops a formula. shape_of: the shape of a value in open sizes; None where it isn't known."""

    measured: MeasuredModel
    shape_of: Callable[[ir.Value], Shape | None]

    def to_sums(self, pairs: RunPairs, differing: Sequence[str]) -> str | None:
        """What stops the formulas of costs; None where nothing does.

        differing: notes on branches and loops that hold at the default sizes or with open sizes alone.
        """
        for opened, fixed in pairs:
            size_decides = isinstance(opened.cost, Cost) or self._defaults_misfit
            if fixed.times and isinstance(fixed.cost, Uncounted) and size_decides:
                return f"{self._called(fixed.node)} isn't counted at the default sizes ({fixed.cost.reason})"
            left_out = fixed.times and isinstance(fixed.cost, Uncounted)  # at the default sizes, too
            if opened.times != 0 and isinstance(opened.cost, Uncounted) and not left_out:
                return self._root(opened.node)
        return f"other sizes take another path ({differing[0]})" if differing else None

    def to_activations(self) -> str | None:
        """What stops the formula of activation bytes; None where nothing does."""
        for opened, fixed in counted_activations(self.measured):
            known = self.measured.contents.bytes_of(fixed) is not None
            if known and self.shape_of(opened) is None:
                producer = opened.producer()
                return (
                    f"the size of {opened.name!r} isn't known" if producer is None else self._root(producer)
                )
            size_decides = self.shape_of(opened) is not None or self._defaults_misfit
            if not known and size_decides and type(fixed.type) not in CONTAINER_TYPES:
                return f"the size of {fixed.name!r} isn't known at the default sizes"
        return None

    def to_value(self, pairs: RunPairs, key: str, value: Callable[[Number], Number]) -> str:
        """The first node whose formula differs from its value at the default sizes."""
        for opened, fixed in pairs:
            if value(getattr(opened.total, key, 0)) != getattr(fixed.total, key, 0):
                return f"that of {self._called(fixed.node)} doesn't hold at the default sizes"
        return "it doesn't hold at the default sizes"

    @property
    def _defaults_misfit(self) -> bool:
        """Whether a node can't run at the default sizes: other sizes may know more."""
        return len(self.measured.counter.unknown) > len(open_unknown(self.measured.symbolic))

    def left_out(self, pairs: RunPairs) -> str | None:
        """The first node that runs and is uncounted at any size."""
        for opened, fixed in pairs:
            if fixed.times and isinstance(fixed.cost, Uncounted):
                if self._lacks_sizes(opened.node):
                    return self._root(opened.node)
                return f"{self._called(fixed.node)} isn't counted ({fixed.cost.reason})"
        return None

    def _root(self, node: ir.Node) -> str:
        """Where the sizes of a node were lost: at the first node whose inputs still have known sizes."""
        root = next((one for one in self._in_order if self._loses_sizes(one)), node)
        if (reason := open_unknown(self.measured.symbolic).get(root)) is not None:
            return f"{self._called(root)} has no shape at open sizes ({reason})"
        source = self._lost_contents(root)
        if source is None:
            return f"the output size of {self._called(root)} doesn't follow from those of the inputs"
        return f"{self._called(root)} takes its output size from {source}, which isn't followed at open sizes"

    @cached_property
    def _in_order(self) -> Sequence[ir.Node]:
        return nodes(self.measured.symbolic)

    def _lacks_sizes(self, node: ir.Node) -> bool:
        values = (*node.inputs, *node.outputs)
        return not all(value is None or not value.name or self._has_size(value) for value in values)

    def _loses_sizes(self, node: ir.Node) -> bool:
        return any(value.name and self.shape_of(value) is None for value in node.outputs) and all(
            value is None or self._has_size(value) for value in node.inputs
        )

    def _has_size(self, value: ir.Value) -> bool:
        return constant_tensor(value) is not None or self.shape_of(value) is not None

    @cached_property
    def _followed(self) -> set[ir.Value]:
        return set(followed_values(self.measured.symbolic))

    @cached_property
    def _made_of_constants(self) -> set[ir.Value]:
        """Values that depend on no input, and so on no size; at the default sizes others are folded, too."""
        found: set[ir.Value] = set()
        for node in self._in_order:
            sources = inputs_and_captures(node)
            if all(value.is_initializer() or value in found for value in sources):
                found.update(node.outputs)
        return found

    def _is_lost(self, value: ir.Value | None) -> bool:
        """Whether a value is a small tensor, such as one of sizes, whose contents aren't known."""
        if value is None or value in self._followed or value in self._made_of_constants:
            return False
        if value.is_initializer():
            return False
        shape = self.shape_of(value)
        return shape is not None and all(isinstance(size, int) for size in shape) and prod(shape) <= MAX_SIZES

    def _lost_contents(self, node: ir.Node) -> str | None:
        """The node or input that computes sizes which aren't followed; None where no size is computed."""
        sizes = node.inputs if node.op_type in MADE_OF_SIZES else node.inputs[1:]
        value = next(filter(self._is_lost, sizes), None)
        if value is None:
            return None
        while (producer := value.producer()) is not None:
            before = next(filter(self._is_lost, producer.inputs), None)
            if before is None:
                return self._called(producer)
            value = before
        return f"the input {value.name!r}"

    def _called(self, node: ir.Node) -> str:
        name = self.measured.counter.names.get(node) or self._opened_name(node)
        return f"{name} ({node.op_type})"

    def _opened_name(self, node: ir.Node) -> str:
        pairs = zip(nodes(self.measured.symbolic), nodes(self.measured.fully_bound), strict=True)
        names = self.measured.counter.names
        return next((names[fixed] for opened, fixed in pairs if opened is node), str(node.name))
