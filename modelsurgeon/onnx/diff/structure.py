"""Numbers of the nodes and values of a model, equal for those of another that compute the same.

A node's number stands for its operator, its attributes, its constants, the bodies in it and the numbers of
its inputs: value numbering (Cocke and Schwartz, 1970) over two models with one table. Names have no part in
it but those of the model's inputs, nor has the order of the nodes. An Identity has the number of its input.
A second pass, from the outputs back, gives other keys to nodes of one number that are read in other ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.matching.alignment import Pair
from modelsurgeon.onnx.diff.nodes import (
    DiffNode,
    Digest,
    attribute_texts,
    constant_digest,
    is_commutative,
    is_constant_node,
    is_identity,
    present_inputs,
)
from modelsurgeon.onnx.graph.dataflow import GRAPH_ATTRIBUTES
from modelsurgeon.onnx.graph.randomness import draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Numbers of a model's values, and the key of every node: its number, and that of what reads it.

    table: the number of every key so far; two models that are compared share it. input_names: the names of
    the main graph's inputs, as the other model calls them.
    """

    opsets: Mapping[str, int]
    digest: Digest
    table: dict[Hashable, int]
    input_names: Mapping[ir.Value, str]
    attributes: Mapping[ir.Node, Mapping[str, str]] = field(default_factory=dict)
    values: dict[ir.Value, int] = field(default_factory=dict)
    numbers: dict[ir.Node, int] = field(default_factory=dict)
    keys: dict[ir.Node, int] = field(default_factory=dict)
    draws: Counter[Hashable] = field(default_factory=Counter)

    def number_graph(self, graph: ir.Graph, path: tuple[Hashable, ...] = ()) -> Hashable:
        """Number all nodes of a graph; return a key for the graph. path: keys of the nodes around it."""
        for index, value in enumerate(graph.inputs):
            if value.is_initializer():
                continue
            name = self.input_names.get(value)
            self.values[value] = self._number(("input", name) if name else ("formal", len(path), index))
        numbers = {node: self._number_node(node, path) for node in graph if not is_constant_node(node)}
        outputs = tuple(self.number_of(value) for value in graph.outputs)
        nodes = sorted(number for node, number in numbers.items() if not is_identity(node))
        return len(graph.inputs), outputs, tuple(nodes)

    def key_graph(self, graph: ir.Graph, owner: Hashable = None) -> None:
        """Give every node of a numbered graph its key, from the outputs back. owner: key around it."""
        for node in reversed(graph):
            if is_constant_node(node):
                continue
            readers = sorted(
                self._number(("read", owner, index, reader)) for index, reader in self._readers(node)
            )
            self.keys[node] = self._number(("key", self.numbers[node], tuple(readers)))
            for name, body in named_bodies(node):
                self.key_graph(body, (self.keys[node], name))

    def _readers(self, node: ir.Node) -> Iterator[tuple[int, Hashable]]:
        """What reads the outputs of a node: index of the output, key of the reader and index of its input."""
        pending = [*enumerate(node.outputs)]
        while pending:
            index, value = pending.pop()
            for user, at in value.uses():
                if is_identity(user):
                    pending.append((index, user.outputs[0]))
                else:
                    yield index, (self.keys.get(user), 0 if is_commutative(user) else at)
            if value.is_graph_output() and value.graph is not None:
                yield from ((index, at) for at, output in enumerate(value.graph.outputs) if output is value)

    def number_of(self, value: ir.Value | None) -> int:
        """The number of a value; it is the same for all constants of one digest."""
        if value is None:
            return self._number(("none",))
        if value not in self.values:
            constant = constant_digest(value, self.digest)
            unknown = ("unknown", value.name)
            self.values[value] = self._number(unknown if constant is None else ("constant", constant))
        return self.values[value]

    def _number(self, key: Hashable) -> int:
        return self.table.setdefault(key, len(self.table))

    def _number_node(self, node: ir.Node, path: tuple[Hashable, ...]) -> int:
        inputs = [self.number_of(value) for value in present_inputs(node)]
        if is_commutative(node):
            inputs.sort()
        attributes = self.attributes.get(node)
        if attributes is None:
            attributes = dict(attribute_texts(node, self.opsets, self.digest))
        own = (
            node.op_identifier(),
            node.version,
            tuple(inputs),
            tuple(attributes.items()),
            len(node.outputs),
        )
        inner = (*path, self._number(own))
        bodies_key = tuple(
            (name, self.number_graph(graph, (*inner, name))) for name, graph in named_bodies(node)
        )
        key: Hashable = (own, bodies_key)
        if draws(node, self.opsets.get("", 1)):
            self.draws[key] += 1
            key = (key, self.draws[key])
        number = self._number(key)
        self.numbers[node] = self._number((path, number))
        for index, value in enumerate(node.outputs):
            self.values[value] = self._number(("output", number, index))
        if is_identity(node):
            self.values[node.outputs[0]] = inputs[0]
        return number


def named_bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    """Branches and loop bodies of a node, by the names of their attributes."""
    found: list[tuple[str, ir.Graph]] = []
    for name, attr in sorted(node.attributes.items()):
        if attr.is_ref() or attr.type not in GRAPH_ATTRIBUTES:
            continue
        if attr.type == ir.AttributeType.GRAPH:
            found.append((name, attr.as_graph()))
        else:
            found += [(f"{name} {index}", graph) for index, graph in enumerate(attr.as_graphs())]
    return found


def pairs_by_structure(
    before: Sequence[DiffNode], after: Sequence[DiffNode], keys: Sequence[Mapping[ir.Node, int]]
) -> list[Pair] | None:
    """Every node of `after` with one of `before` that has the same key; None where the keys don't match.

    keys: of the nodes of both models. Among nodes with one key, those of one name are paired first, then the
    others in order.
    """
    groups: list[dict[Hashable, list[int]]] = [{}, {}]
    for found, nodes, key_of in zip(groups, (before, after), keys, strict=True):
        for index, each in enumerate(nodes):
            found.setdefault(key_of[each.node], []).append(index)
    if {key: len(at) for key, at in groups[0].items()} != {key: len(at) for key, at in groups[1].items()}:
        return None
    partner: dict[int, int] = {}
    for key, right in groups[1].items():
        left = groups[0][key]
        names = {before[i].row.name: i for i in left}
        named = {j: names[after[j].row.name] for j in right if after[j].row.name in names}
        taken = set(named.values())
        others = zip([j for j in right if j not in named], [i for i in left if i not in taken], strict=True)
        partner |= named | dict(others)
    return [([partner[j]], [j]) for j in range(len(after))]
