"""Liveness of values: which are alive as each node of a graph runs, with branches and loop bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.onnx.graph.dataflow import inputs_and_captures, subgraphs

STACKING_OPERATORS = ("Loop", "Scan")


@dataclass(frozen=True, kw_only=True)
class Instant:
    """A node as it runs, and the bytes alive then. depth: how many nodes with a subgraph it is inside of."""

    node: ir.Node
    bytes: int
    depth: int


@dataclass(kw_only=True)
class Liveness:
    """Goes through a graph in file order and counts the bytes alive; no two values share memory.

    An input lives until its last use, an output to the end of its graph; a node's inputs and outputs are
    alive together. Values of a body add to those of the graph around it; loop states count twice, and outputs
    stacked from iterations count in full from the start. size_of: bytes of a value; None for values not
    counted. enters: whether a subgraph is entered. live: bytes of the values alive now. bytes: their sum.
    """

    size_of: Callable[[ir.Value], int | None]
    enters: Callable[[ir.Graph], bool] = lambda _: False
    live: dict[ir.Value, int] = field(default_factory=dict)
    bytes: int = 0

    def steps(self, graph: ir.Graph, inputs: Iterable[ir.Value], depth: int = 0) -> Iterator[Instant]:
        """Every node as it runs; `live` then holds the values alive at this node."""
        needs = [(node, list(inputs_and_captures(node))) for node in graph]
        last = {value: step for step, (_, needed) in enumerate(needs) for value in needed}
        last.update(dict.fromkeys(graph.outputs, len(needs)))
        own = self._add(value for value in inputs if value in last)
        for step, (node, needed) in enumerate(needs):
            if node.op_type in STACKING_OPERATORS:
                own |= self._add(stacked(node))
            for body in filter(self.enters, subgraphs(node)):
                yield from self.steps(body, body.inputs, depth + 1)
            own |= self._add(node.outputs)
            yield Instant(node=node, bytes=self.bytes, depth=depth)
            done = [value for value in (*needed, *node.outputs) if last.get(value, step) == step]
            own -= self._drop(own.intersection(done))
        self._drop(own)

    def _add(self, values: Iterable[ir.Value]) -> set[ir.Value]:
        """Make values alive; returns those that are counted."""
        sized = {value: size for value in values if (size := self.size_of(value)) is not None}
        self.bytes += sum([size for value, size in sized.items() if value not in self.live])
        self.live.update(sized)
        return set(sized)

    def _drop(self, values: set[ir.Value]) -> set[ir.Value]:
        """Make values dead; returns them."""
        self.bytes -= sum([self.live.pop(value) for value in values])
        return values


def stacked(node: ir.Node) -> list[ir.Value]:
    """Outputs of a Loop or Scan that grow by a slice in each iteration."""
    body = node.attributes.get_graph("body", None) if node.op_type in STACKING_OPERATORS else None
    if body is None or node.domain:
        return []
    states = len(body.inputs) - (
        2 if node.op_type == "Loop" else node.attributes.get_int("num_scan_inputs", 0)
    )
    return list(node.outputs[max(states, 0) :])
