"""Which channels of a graph can only be scaled, or removed, together, and which not at all.

A function with f(k x) = k f(x) for every k > 0 is positively homogeneous: ReLU and its kind, pooling, means,
sums, maxima (MaxOut among them). If all values between two layers come from such functions, a channel that
is divided by k behind the first layer may be multiplied by k in the second.

The channels are on the second axis; behind a fully connected layer on values of more axes, on the last.
Every channel of every value is an element. A homogeneous function hands its elements on, or joins those that
meet in one output channel; what is joined, directly or around corners, is one component and has one factor.
So branches, residual sums, concatenations, MaxOut and Flatten need no cases of their own. An element that a
function of another kind takes or gives, or that the outside sees, pins its component: its factor is 1.

Who removes channels asks the same of more functions: every one that works on each channel by itself hands
its elements on (`EACH_BY_ITSELF`), be it homogeneous or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import lcm, prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.onnx.graph.dataflow import constant_values, inputs_and_captures
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.onnx.passes.batchnorm.nodes import is_training
from modelsurgeon.onnx.passes.channels.op_rules import (
    ELEMENTWISE,
    FACTORS,
    HOMOGENEOUS,
    MOVING,
    REDUCING,
    RESHAPING,
    ChannelRules,
    moves_positions,
    reduces_positions,
)
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims

Index = NDArray[np.intp]
CHANNEL_AXIS = 1
ANOTHER_AXIS = "a fully connected layer takes it along another axis"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComponentLink:
    """A layer between components. x, y: the component of every input and output channel, per use of it."""

    site: OnnxSite
    x: Index
    y: Index


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelShift:
    """A constant that is added to channels, and changes with their factors.

    place: of it among the inputs. behind: how many axes follow that of the channels.
    """

    node: ir.Node
    place: int
    behind: int
    at: Index


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelComponents:
    """The components of a graph. pinned: why a component stays as it is, by its number.

    at: the component of every channel of a value. handing: nodes whose output has the channels of their data.
    axes: where a value has its channels, if that isn't the second axis. loose: layers whose inputs have not.
    """

    count: int
    links: Sequence[ComponentLink]
    shifts: Sequence[ChannelShift]
    pinned: Mapping[int, str]
    at: Mapping[ir.Value, Index]
    handing: Set[ir.Node]
    axes: Mapping[ir.Value, int]
    loose: Set[ir.Node]

    def place(self, subject: PassContext, value: ir.Value) -> tuple[int, int]:
        """The number of a value's axes, and the one that its channels are on."""
        return subject.ndim(value) or 0, self.axes.get(value, CHANNEL_AXIS)

    def is_free(self) -> NDArray[np.bool_]:
        """Of every component, whether it may have a factor."""
        free = np.ones(self.count, bool)
        free[list(self.pinned)] = False
        return free


def channel_components(
    subject: PassContext,
    sites: Sequence[OnnxSite],
    tied: Callable[[OnnxSite], bool] | None = None,
    rules: ChannelRules = HOMOGENEOUS,
) -> ChannelComponents:
    """The components of a model and its layers between them.

    sites: the layers that may change. tied: the layers whose output channels stay with their inputs.
    """
    layers = {node: site for site in sites for node in site.nodes}
    made = _Elements(subject=subject, layers=layers, rules=rules)
    for value in subject.graph.inputs:
        made.pin(value, "it comes from an input of the model")
    for node in subject.graph:
        made.add(node)
    for value in subject.graph.outputs:
        made.pin(value, "it is an output of the model")
    for site in sites:
        made.join_uses(site, tied is not None and tied(site))
    return made.components(sites)


@dataclass(kw_only=True, eq=False)
class _Elements:
    """Elements as they are found, node by node."""

    subject: PassContext
    layers: Mapping[ir.Node, OnnxSite]
    rules: ChannelRules
    at: dict[ir.Value, Index] = field(default_factory=dict)
    count: int = 0
    edges: list[tuple[Index, Index]] = field(default_factory=list)
    pins: list[tuple[Index, str]] = field(default_factory=list)
    shifts: list[ChannelShift] = field(default_factory=list)
    handing: set[ir.Node] = field(default_factory=set)
    axes: dict[ir.Value, int] = field(default_factory=dict)
    loose: dict[ir.Node, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = constant_values(self.subject.model)

    def of(self, value: ir.Value | None) -> Index | None:
        """The elements of a value along its channels, made at the first call; None where it has none."""
        if value is None or value in self.constants:
            return None
        if value not in self.at and (size := self._size(value)) is not None:
            self.at[value] = np.arange(self.count, self.count + size)
            self.count += size
        return self.at.get(value)

    def _size(self, value: ir.Value) -> int | None:
        """How many channels a value has."""
        sizes, axis = dims(self.subject, value), self._axis(value)
        return None if sizes is None or len(sizes) <= axis else sizes[axis]

    def _axis(self, value: ir.Value) -> int:
        return self.axes.get(value, CHANNEL_AXIS)

    def _ndim(self, value: ir.Value) -> int:
        return len(dims(self.subject, value) or ())

    def pin(self, value: ir.Value | None, reason: str) -> None:
        """Give the channels of a value the factor 1."""
        if (elements := self.of(value)) is not None:
            self.pins.append((elements, reason))

    def add(self, node: ir.Node) -> None:
        """What a node does to channels."""
        if all(value in self.constants for value in node.outputs):
            return
        if not (node in self.layers and self._is_layer(node)) and not self._hands_on(node):
            reason = f"{node.op_type} {self.rules.otherwise}"
            if node.op_type == "BatchNormalization" and not self.rules.norms:
                reason = "BatchNormalization stands between: fold it first (bn fold)"
            for value in (*inputs_and_captures(node), *node.outputs):
                self.pin(value, reason)

    def _is_layer(self, node: ir.Node) -> bool:
        """Layers are free on both sides; where inputs have other channels than they take, behind them."""
        layer, made = self.layers[node].layer, node.outputs[0]
        if not layer.kernel and made not in self.at and self._ndim(made) > CHANNEL_AXIS:
            self.axes[made] = self._ndim(made) - 1
        x, y = self.taken(node), self.of(made)
        if x is None or y is None:
            return False
        wanted = CHANNEL_AXIS if layer.kernel else self._ndim(made) - 1
        return len(x) == layer.in_channels and len(y) == layer.out_channels and wanted == self._axis(made)

    def taken(self, node: ir.Node) -> Index | None:
        """The elements that a layer takes: those of its data, or pinned ones of its own."""
        layer, data = self.layers[node].layer, _data(node)
        if data is None or layer.kernel or self._axis(data) == self._ndim(data) - 1:
            return self.of(data)
        if node not in self.loose:
            self.pin(data, ANOTHER_AXIS)
            self.loose[node] = np.arange(self.count, self.count + layer.in_channels)
            self.count += layer.in_channels
            self.pins.append((self.loose[node], ANOTHER_AXIS))
        return self.loose[node]

    def _hands_on(self, node: ir.Node) -> bool:
        """Whether the node is homogeneous, and its output's elements are known now."""
        if node.domain or not node.inputs or not node.outputs:
            return False
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return False
        data = [value for value in node.inputs if value is not None and value not in self.constants]
        elements = [self.of(value) for value in data]
        if not data or any(each is None for each in elements):
            return False
        axes, made = {self._axis(value) for value in data}, node.outputs[0]
        if axes != {CHANNEL_AXIS} and not self._is_elementwise(node, data):
            return False
        (self.axes[made],) = axes
        found = self._found(node, data, [each for each in elements if each is not None])
        if found is None or self._size(made) != len(found):
            del self.axes[made]
            return False
        self.at[made] = found
        self.handing.add(node)
        return True

    def _is_elementwise(self, node: ir.Node, data: Sequence[ir.Value]) -> bool:
        """Whether a node does the same on any axis, and all its data have their channels on one."""
        places = {(self._axis(value), self._ndim(value)) for value in data}
        alike = (
            node.op_type in ELEMENTWISE and node.op_type in self.rules.keeping | self.rules.joining | FACTORS
        )
        return alike and len(places) == 1

    def _found(self, node: ir.Node, data: Sequence[ir.Value], at: Sequence[Index]) -> Index | None:
        """The elements of the output; None where the node isn't homogeneous."""
        op = node.op_type
        scaled = op in FACTORS and len(data) == 1 and (op == "Mul" or data == [node.inputs[0]])
        spared = op in REDUCING and reduces_positions(node, len(dims(self.subject, data[0]) or ()))
        moved = op in MOVING and moves_positions(self.subject, node)
        if op in self.rules.keeping or spared or moved or (scaled and self._same_size(node, data[0])):
            return at[0]
        if op == "BatchNormalization" and self.rules.norms and not is_training(self.subject.model, node):
            return at[0] if data == [node.inputs[0]] else None
        if op in self.rules.joining:
            return self._joined(node, data, at)
        if op in RESHAPING:
            return self._reshaped(node, data[0], at[0])
        behind = op == "Concat" and node.attributes.get_int("axis", 1) == 1 and len(data) == len(node.inputs)
        return np.concatenate(at) if behind else None

    def _joined(self, node: ir.Node, data: Sequence[ir.Value], at: Sequence[Index]) -> Index | None:
        """Values of one shape have one factor; a constant is a shift, if it is added."""
        if not all(self._same_size(node, value) for value in data):
            return None
        shifts = [place for place, value in enumerate(node.inputs) if value not in data]
        if shifts and (node.op_type not in self.rules.shifting or "broadcast" in node.attributes):
            return None
        behind = self._ndim(data[0]) - 1 - self._axis(data[0])
        self.shifts += [ChannelShift(node=node, place=place, behind=behind, at=at[0]) for place in shifts]
        self.edges += [(at[0], other) for other in at[1:]]
        return at[0]

    def _same_size(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a value isn't broadcast on the way to the node's output; over positions it may be."""
        before, after = (dims(self.subject, each) for each in (value, node.outputs[0]))
        if not self.rules.stretching or before is None or after is None:
            return before == after
        axis = self._axis(value)
        return len(before) == len(after) and before[axis] == after[axis]

    def _reshaped(self, node: ir.Node, value: ir.Value, at: Index) -> Index | None:
        """Channels of both shapes that share a feature are joined; samples must stay samples."""
        before, after = (dims(self.subject, each) for each in (value, node.outputs[0]))
        if before is None or after is None or None in (*before[1:], *after[1:]) or len(after) < 2:
            return None
        rest = [prod(n for n in sizes[2:] if n is not None) for sizes in (before, after)]
        features = prod(n for n in before[1:] if n is not None)
        if features != prod(n for n in after[1:] if n is not None) or not features:
            return None
        made = self.of(node.outputs[0])
        if made is None:
            return None
        # Both block lengths divide that of their common multiple, so its starts and ends show every meeting.
        feature = np.arange(features) if lcm(*rest) > max(rest) else np.arange(0, features, min(rest))
        self.edges.append((at[feature // rest[0]], made[feature // rest[1]]))
        return made

    def join_uses(self, site: OnnxSite, tied: bool) -> None:
        """One layer that is used several times has the same factors in all of them."""
        pairs = [(self.taken(node), self.of(node.outputs[0])) for node in site.nodes]
        first = pairs[0]
        for other in pairs[1:]:
            for a, b in zip(first, other, strict=True):
                if a is not None and b is not None and len(a) == len(b):
                    self.edges.append((a, b))
        if tied and first[0] is not None and first[1] is not None and len(first[0]) == len(first[1]):
            self.edges.append((first[0], first[1]))

    def components(self, sites: Sequence[OnnxSite]) -> ChannelComponents:
        """What hangs together."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        a, b = (np.concatenate([np.zeros(0, np.intp), *(edge[i] for edge in self.edges)]) for i in (0, 1))
        graph: Any = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        count, labels = (
            connected_components(graph, directed=False) if self.count else (0, np.zeros(0, np.intp))
        )
        labels = np.asarray(labels, np.intp)
        pinned: dict[int, str] = {}
        for elements, reason in self.pins:
            for component in np.unique(labels[elements]):
                pinned.setdefault(int(component), reason)
        links = []
        for site in sites:
            x, y = self.taken(site.nodes[0]), self.of(site.nodes[0].outputs[0])
            if x is not None and y is not None and self._is_layer(site.nodes[0]):
                links.append(ComponentLink(site=site, x=labels[x], y=labels[y]))
        shifts = [
            ChannelShift(node=each.node, place=each.place, behind=each.behind, at=labels[each.at])
            for each in self.shifts
        ]
        return ChannelComponents(
            count=count,
            links=links,
            shifts=shifts,
            pinned=pinned,
            at={value: labels[elements] for value, elements in self.at.items()},
            handing=self.handing,
            axes=self.axes,
            loose=self.loose.keys(),
        )


def _data(node: ir.Node) -> ir.Value | None:
    """The data input of a layer whose weight is on the right; a weight on the left has channels elsewhere."""
    return node.inputs[0]
