"""Where paired nodes and graphs read their inputs from.

Two values have the same source where they are the same output of two paired nodes, or the same input of the
model or of two paired bodies. An Identity is transparent. A node without a partner is reported by itself;
what reads its output is compared with the nodes before it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from modelsurgeon.onnx.diff.nodes import (
    DiffNode,
    Digest,
    behind_identity,
    constant_digest,
    is_commutative,
    is_constant_node,
)
from modelsurgeon.onnx.diff.structure import Structure, named_bodies
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures

Source = Hashable  # equal for the same output of two paired nodes, and for the same input of both models


@dataclass(frozen=True, kw_only=True, eq=False)
class Wires:
    """The sources of one model's values.

    pair_of: the number of the pair in which a node makes the result. names: of nodes, in reports. structure:
    numbers of values. owners: the node around a body, and the name of its attribute.
    """

    pair_of: Mapping[ir.Node, int]
    names: Mapping[ir.Node, str]
    structure: Structure
    owners: Mapping[ir.Graph, tuple[ir.Node, str]] = field(default_factory=dict)

    def source(self, value: ir.Value) -> Source | None:
        """The source of a value; None where it is the output of a node without a partner."""
        node = value.producer()
        if node is not None:
            pair = self.pair_of.get(node)
            return None if pair is None else ("output", pair, list(node.outputs).index(value))
        if (name := self.structure.input_names.get(value)) is not None:
            return "input", name
        owner = None if value.graph is None else self.owners.get(value.graph)
        if owner is None or not isinstance(value.graph, ir.Graph) or value not in value.graph.inputs:
            return "unknown", value.name
        node, attribute = owner
        return "body", self.pair_of.get(node), attribute, list(value.graph.inputs).index(value)

    def nearest_sources(self, value: ir.Value) -> set[Source]:
        """The sources of a value, where nodes without a partner have those of their inputs."""
        found: set[Source] = set()
        pending, seen = [value], set[ir.Value]()
        while pending:
            at = behind_identity(pending.pop())
            if at in seen:
                continue
            seen.add(at)
            source, node = self.source(at), at.producer()
            if source is not None:
                found.add(source)
            elif node is not None and not is_constant_node(node):
                pending += inputs_and_captures(node)
        return found

    def text(self, value: ir.Value) -> str:
        """A source in words."""
        value = behind_identity(value)
        node = value.producer()
        if is_constant_node(node) or value.is_initializer():
            return "a constant"
        if node is None:
            body = value.graph in self.owners
            return f"{'body' if body else 'graph'} input {value.name!r}"
        name, index = self.names.get(node, node.op_type), list(node.outputs).index(value)
        return f"output {index} of {name!r}" if index else repr(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedWires:
    """The wiring of two models. exact: whether equal numbers of values prove that they are equal."""

    before: Wires
    after: Wires
    digest: Digest
    exact: bool

    def same(self, a: ir.Value | None, b: ir.Value | None) -> bool:
        """Whether two values that aren't constant have the same source."""
        if a is None or b is None:
            return a is b
        a, b = behind_identity(a), behind_identity(b)
        if self.exact and self.before.structure.number_of(a) == self.after.structure.number_of(b):
            return True
        sources = (self.before.source(a), self.after.source(b))
        if None not in sources:
            return sources[0] == sources[1]
        nearest = (self.before.nearest_sources(a), self.after.nearest_sources(b))
        return not (nearest[0] and nearest[1] and nearest[0].isdisjoint(nearest[1]))

    def in_order_of(self, before: DiffNode, after: DiffNode) -> DiffNode:
        """`after` with its two operands in the order of `before`, where they may change places and have."""
        nodes = (before.node, after.node)
        if nodes[0].op_type != nodes[1].op_type or not all(map(is_commutative, nodes)):
            return after
        swapped = replace(after, operands=after.operands[::-1])
        return after if self._agree(before, after) or not self._agree(before, swapped) else swapped

    def _agree(self, before: DiffNode, after: DiffNode) -> bool:
        return all(
            a.constant == b.constant and (a.constant is not None or self.same(a.value, b.value))
            for a, b in zip(before.operands, after.operands, strict=True)
        )

    def changes(self, before: DiffNode, after: DiffNode) -> Iterator[str]:
        """Changes of the sources of two paired nodes, and of the outputs of the bodies in them."""
        pairs = enumerate(zip(before.operands, after.operands, strict=False))
        rewired = [
            (index, a.value, b.value)
            for index, (a, b) in pairs
            if a.value is not None and b.value is not None and a.constant is None and b.constant is None
            and not self.same(a.value, b.value)
        ]  # fmt: skip
        yield from self._rewired_texts(rewired)
        bodies = dict(named_bodies(after.node))
        for name, graph in named_bodies(before.node):
            if (other := bodies.pop(name, None)) is None:
                yield f"{name} is missing"
                continue
            if len(graph.inputs) != len(other.inputs):
                yield f"{name} has {len(graph.inputs)} → {len(other.inputs)} inputs"
            yield from self.output_changes(graph, other, f"{name} ")
        yield from (f"{name} is new" for name in bodies)

    def output_changes(self, before: ir.Graph, after: ir.Graph, where: str = "") -> Iterator[str]:
        """Changes of the sources of a graph's outputs, paired by name if all are equal, else in order."""
        outputs = list(after.outputs)
        by_name = {value.name: value for value in outputs}
        if not where and {value.name for value in before.outputs} == by_name.keys():
            outputs = [by_name[value.name] for value in before.outputs]
        if len(before.outputs) != len(outputs) and where:
            yield f"{where}has {len(before.outputs)} → {len(outputs)} outputs"
        for index, (a, b) in enumerate(zip(before.outputs, outputs, strict=False)):
            name = f"{where}output {index if where else repr(a.name)}"
            constants = [constant_digest(value, self.digest) for value in (a, b)]
            if None not in constants:
                if constants[0] != constants[1]:
                    yield f"{name} has other values"
            elif constants != [None, None] or not self.same(a, b):
                yield self._rewired_text(name, a, b)

    def chain_changes(self, before: DiffNode, after: Sequence[DiffNode]) -> Iterator[str]:
        """A change where a chain reads nothing of what the layer reads that it replaces."""
        inner = {value for each in after for value in each.node.outputs}
        ours = [op.value for op in before.operands if op.value is not None and op.constant is None]
        theirs = [
            op.value
            for each in after
            for op in each.operands
            if op.value is not None and op.constant is None and op.value not in inner
        ]
        missing = [a for a in ours if not any(self.same(a, b) for b in theirs)]
        if missing and theirs:
            yield self._rewired_text("its first node", missing[0], theirs[0])

    def _rewired_texts(self, rewired: Sequence[tuple[int, ir.Value, ir.Value]]) -> Iterator[str]:
        ours = [self.before.source(behind_identity(a)) for _, a, _ in rewired]
        theirs = [self.after.source(behind_identity(b)) for _, _, b in rewired]
        if (
            len(rewired) > 1
            and None not in (*ours, *theirs)
            and sorted(map(repr, ours)) == sorted(map(repr, theirs))
        ):
            numbers = [str(index) for index, _, _ in rewired]
            yield f"inputs {', '.join(numbers[:-1])} and {numbers[-1]} have changed places"
            return
        for index, a, b in rewired:
            yield self._rewired_text(f"input {index}", a, b)

    def _rewired_text(self, reader: str, a: ir.Value, b: ir.Value) -> str:
        """A sentence with both sources, and with their operators where they have one name."""
        texts = [self.before.text(a), self.after.text(b)]
        if texts[0] == texts[1]:
            producers = (behind_identity(value).producer() for value in (a, b))
            ops = [node.op_type if node is not None else "" for node in producers]
            texts = [f"{op} {text}".strip() for op, text in zip(ops, texts, strict=True)]
        return f"{reader} reads {texts[0]} → {texts[1]}"


def body_owners(nodes: Sequence[DiffNode]) -> dict[ir.Graph, tuple[ir.Node, str]]:
    """The node around every body, and the name of the attribute that holds it."""
    return {graph: (each.node, name) for each in nodes for name, graph in named_bodies(each.node)}
