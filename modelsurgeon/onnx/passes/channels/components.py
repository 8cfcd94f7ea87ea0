"""Connected components of channels: those that can only be scaled, or removed, together.

A function with f(k x) = k f(x) for every k > 0 is positively homogeneous: ReLU and its kind, pooling, means,
sums, maxima (MaxOut among them). If all values between two layers come from such functions, a channel that
is divided by k after the first layer may be multiplied by k in the second.

The channels are on the second axis; after a fully connected layer on values of more axes, on the last; after
a Transpose, where it puts them.
Every channel of every value is an element. A homogeneous function passes its elements on, or joins those that
meet in one output channel; elements that are joined, directly or through others, are one component with one
factor. So branches, residual sums, concatenations, MaxOut and Flatten need no special cases. An element of an
input or output of the model, or of any other function, pins its component: its factor is 1.

To remove channels, the same holds for more functions: every one that works on each channel separately passes
its elements on (`CHANNELWISE`), homogeneous or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import lcm, prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.dataflow import constant_values, inputs_and_captures
from modelsurgeon.onnx.graph.randomness import draws
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.onnx.passes.batchnorm.nodes import is_training
from modelsurgeon.onnx.passes.channels.op_rules import (
    ELEMENTWISE,
    HOMOGENEOUS,
    MULTIPLICATIVE,
    REDUCING,
    RESHAPING,
    SPATIAL,
    ChannelRules,
    changes_positions_only,
    reduces_positions_only,
)
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims, keeps_type, opset, transpose_order

Index = NDArray[np.intp]
CHANNEL_AXIS = 1
BROADCASTING_OPSET = 7  # the opset from which on constants are broadcast from the last axis
UNKNOWN_CHANNELS_REASON = "its channels aren't where its operator has them, or their number is open"
OTHER_AXIS_REASON = "a layer takes it along another axis"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComponentLink:
    """A layer between components. x, y: the component of every input and output channel of the layer."""

    site: OnnxSite
    x: Index
    y: Index


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelShift:
    """A constant that is added to channels, and scales with their factors.

    place: its index among the node's inputs. trailing: how many axes follow the channel axis. at: the
    component of every channel.
    """

    node: ir.Node
    place: int
    trailing: int
    at: Index


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelComponents:
    """The components of a graph, by number. pinned: the reason why a component can't change.

    at: the component of every channel of a value. channel_preserving: nodes whose output has the channels of
    their data. axes: the channel axis of a value, where it isn't the second. off_axis: layers that work on
    another axis of their input than its channel axis.
    """

    count: int
    links: Sequence[ComponentLink]
    shifts: Sequence[ChannelShift]
    pinned: Mapping[int, str]
    at: Mapping[ir.Value, Index]
    channel_preserving: Set[ir.Node]
    axes: Mapping[ir.Value, int]
    off_axis: Set[ir.Node]

    def place(self, context: PassContext, value: ir.Value) -> tuple[int, int]:
        """The number of a value's axes (0 if unknown), and its channel axis."""
        return context.ndim(value) or 0, self.axes.get(value, CHANNEL_AXIS)

    def is_free(self) -> NDArray[np.bool_]:
        """For every component, whether it may have a factor, `(count,)`."""
        free = np.ones(self.count, bool)
        free[list(self.pinned)] = False
        return free


def channel_components(
    context: PassContext,
    sites: Sequence[OnnxSite],
    tied: Callable[[OnnxSite], bool] | None = None,
    rules: ChannelRules = HOMOGENEOUS,
) -> ChannelComponents:
    """The components of a model's channels, and the layers between them.

    sites: the layers that may change. tied: whether a layer's output channels are tied to its input channels.
    """
    layers = {node: site for site in sites for node in site.nodes}
    elements = _Elements(context=context, layers=layers, rules=rules)
    for value in context.graph.inputs:
        elements.pin(value, "it comes from an input of the model")
    for node in context.graph:
        elements.add(node)
    for value in context.graph.outputs:
        elements.pin(value, "it is an output of the model")
    for site in sites:
        elements.join_uses(site, tied is not None and tied(site))
    return elements.components(sites)


@dataclass(kw_only=True, eq=False)
class _Elements:
    """Elements and their edges, collected node by node."""

    context: PassContext
    layers: Mapping[ir.Node, OnnxSite]
    rules: ChannelRules
    at: dict[ir.Value, Index] = field(default_factory=dict)
    count: int = 0
    edges: list[tuple[Index, Index]] = field(default_factory=list)
    pins: list[tuple[Index, str]] = field(default_factory=list)
    shifts: list[ChannelShift] = field(default_factory=list)
    channel_preserving: set[ir.Node] = field(default_factory=set)
    axes: dict[ir.Value, int] = field(default_factory=dict)
    off_axis: dict[ir.Node, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = constant_values(self.context.model)

    def of(self, value: ir.Value | None) -> Index | None:
        """The elements of a value, one per channel, numbered at the first call; None where it has none."""
        if value is None or value in self.constants:
            return None
        if value not in self.at and (size := self._size(value)) is not None:
            self.at[value] = np.arange(self.count, self.count + size)
            self.count += size
        return self.at.get(value)

    def _size(self, value: ir.Value) -> int | None:
        """Number of channels of a value; None where it isn't known."""
        sizes, axis = dims(self.context, value), self._axis(value)
        return None if sizes is None or len(sizes) <= axis else sizes[axis]

    def _axis(self, value: ir.Value) -> int:
        return self.axes.get(value, CHANNEL_AXIS)

    def _ndim(self, value: ir.Value) -> int:
        return len(dims(self.context, value) or ())

    def pin(self, value: ir.Value | None, reason: str) -> None:
        """Fix the channels of a value: their factor is 1."""
        if (elements := self.of(value)) is not None:
            self.pins.append((elements, reason))

    def add(self, node: ir.Node) -> None:
        """Add a node: join, pass on or pin the channels of its inputs and outputs."""
        if all(value in self.constants for value in node.outputs):
            return
        if not (node in self.layers and self._is_layer_node(node)) and not self._preserves_channels(node):
            reason = self._why_pinned(node)
            for value in (*inputs_and_captures(node), *node.outputs):
                self.pin(value, reason)

    def _why_pinned(self, node: ir.Node) -> str:
        """The reason why a node's channels can't change."""
        if node.op_type == "BatchNormalization" and not self.rules.norms:
            return "BatchNormalization is in between: fold it first (bn fold)"
        if node.op_type == "BatchNormalization" and is_training(self.context.model, node):
            return "BatchNormalization is in training mode: bn freeze --training first"
        if (reason := self._unreadable_constant(node)) is not None:
            return reason
        return f"{node.op_type} {self.rules.unknown_reason}"

    def _unreadable_constant(self, node: ir.Node) -> str | None:
        """The reason why a constant that would have to be rewritten can't be; None where there is none."""
        if node.op_type not in self.rules.rewritten:
            return None
        for value in node.inputs:
            if value is None or value not in self.constants:
                continue
            array = constant_array(value)
            if array is None:
                return f"{node.op_type} takes {value.name!r}, {_why_unreadable(value)}"
            if array.size > 1 and self._broadcasts_by_axis(node):
                return f"{node.op_type} broadcasts {value.name!r} by the rules from before opset 7"
        return None

    def _broadcasts_by_axis(self, node: ir.Node) -> bool:
        """Whether a constant operand is aligned with an axis that an attribute or the operator names."""
        old = "broadcast" in node.attributes or opset(self.context) < BROADCASTING_OPSET
        return old and node.op_type != "BatchNormalization"

    def _is_layer_node(self, node: ir.Node) -> bool:
        """Whether input and output of the node have its layer's channels; sets the output's channel axis."""
        layer, output = self.layers[node].layer, node.outputs[0]
        if not layer.kernel and output not in self.at and self._ndim(output) > CHANNEL_AXIS:
            self.axes[output] = self._ndim(output) - 1
        x, y = self.layer_inputs(node), self.of(output)
        if x is None or y is None:
            return False
        axis = CHANNEL_AXIS if layer.kernel else self._ndim(output) - 1
        return len(x) == layer.in_channels and len(y) == layer.out_channels and axis == self._axis(output)

    def layer_inputs(self, node: ir.Node) -> Index | None:
        """The input elements of a layer: those of its data, or new pinned ones for another axis."""
        layer, data = self.layers[node].layer, _first_input(node)
        if data is None or self._axis(data) == (CHANNEL_AXIS if layer.kernel else self._ndim(data) - 1):
            return self.of(data)
        if node not in self.off_axis:
            self.pin(data, OTHER_AXIS_REASON)
            self.off_axis[node] = np.arange(self.count, self.count + layer.in_channels)
            self.count += layer.in_channels
            self.pins.append((self.off_axis[node], OTHER_AXIS_REASON))
        return self.off_axis[node]

    def _preserves_channels(self, node: ir.Node) -> bool:
        """Whether the node passes channels on; if so, sets its output's elements."""
        plain = not node.domain and node.inputs and node.outputs and not draws(node, opset(self.context))
        if not plain or self._unreadable_constant(node) is not None:
            return False
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return False
        data = [value for value in node.inputs if value is not None and value not in self.constants]
        elements = [self.of(value) for value in data]
        if not data or any(e is None for e in elements):
            return False
        axes, output = {self._axis(value) for value in data}, node.outputs[0]
        order = transpose_order(self.context, node)
        if axes != {CHANNEL_AXIS} and order is None and not self._is_elementwise(node, data):
            return False
        (axis,) = axes
        self.axes[output] = axis if order is None else order.index(axis)
        passed = self._output_elements(node, data, [e for e in elements if e is not None])
        if passed is None or self._size(output) != len(passed):
            del self.axes[output]
            return False
        self.at[output] = passed
        self.channel_preserving.add(node)
        return True

    def _is_elementwise(self, node: ir.Node, data: Sequence[ir.Value]) -> bool:
        """Whether a node works elementwise, and all its data have the same channel axis."""
        axes = {(self._axis(value), self._ndim(value)) for value in data}
        passing = self.rules.unary | self.rules.combining | MULTIPLICATIVE
        alike = node.op_type in ELEMENTWISE & passing or keeps_type(self.context, node)
        return alike and len(axes) == 1

    def _output_elements(self, node: ir.Node, data: Sequence[ir.Value], at: Sequence[Index]) -> Index | None:
        """The elements of the output; None where the node doesn't pass channels on."""
        op = node.op_type
        scaled = op in MULTIPLICATIVE and len(data) == 1 and (op == "Mul" or data == [node.inputs[0]])
        reduced = op in REDUCING and reduces_positions_only(node, len(dims(self.context, data[0]) or ()))
        spatial = op in SPATIAL and changes_positions_only(self.context, node)
        kept = op == "Transpose" or keeps_type(self.context, node)
        if (
            op in self.rules.unary
            or kept
            or reduced
            or spatial
            or (scaled and self._same_size(node, data[0]))
        ):
            return at[0]
        if op == "BatchNormalization" and self.rules.norms and not is_training(self.context.model, node):
            return at[0] if data == [node.inputs[0]] else None
        if op in self.rules.combining:
            return self._combined(node, data, at)
        if op in RESHAPING:
            return self._reshaped(node, data[0], at[0])
        concatenated = (
            op == "Concat" and node.attributes.get_int("axis", 1) == 1 and len(data) == len(node.inputs)
        )
        return np.concatenate(at) if concatenated else None

    def _combined(self, node: ir.Node, data: Sequence[ir.Value], at: Sequence[Index]) -> Index | None:
        """The elements of a sum or the like: all its data are joined, its constants become shifts."""
        if not all(self._same_size(node, value) for value in data):
            return None
        constants = [place for place, value in enumerate(node.inputs) if value not in data]
        if constants and node.op_type not in self.rules.with_constants:
            return None
        trailing = self._ndim(data[0]) - 1 - self._axis(data[0])
        self.shifts += [
            ChannelShift(node=node, place=place, trailing=trailing, at=at[0]) for place in constants
        ]
        self.edges += [(at[0], other) for other in at[1:]]
        return at[0]

    def _same_size(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a value isn't broadcast to the node's output; under `broadcasting`, only channels count."""
        before, after = (dims(self.context, v) for v in (value, node.outputs[0]))
        if not self.rules.broadcasting or before is None or after is None:
            return before == after
        axis = self._axis(value)
        return len(before) == len(after) and before[axis] == after[axis]

    def _reshaped(self, node: ir.Node, value: ir.Value, at: Index) -> Index | None:
        """The elements of a Reshape, which keeps samples: channels that share a feature are joined."""
        before, after = (dims(self.context, v) for v in (value, node.outputs[0]))
        if before is None or after is None or None in (*before[1:], *after[1:]) or len(after) < 2:
            return None
        positions = [prod(n for n in sizes[2:] if n is not None) for sizes in (before, after)]
        features = prod(n for n in before[1:] if n is not None)
        if features != prod(n for n in after[1:] if n is not None) or not features:
            return None
        output = self.of(node.outputs[0])
        if output is None:
            return None
        # If one block length divides the other, one feature per smaller block shows every pair that meets.
        feature = (
            np.arange(features)
            if lcm(*positions) > max(positions)
            else np.arange(0, features, min(positions))
        )
        self.edges.append((at[feature // positions[0]], output[feature // positions[1]]))
        return output

    def join_uses(self, site: OnnxSite, tied: bool) -> None:
        """Join the channels of all uses of a layer; if tied, its output channels with its input channels."""
        uses = [(self.layer_inputs(node), self.of(node.outputs[0])) for node in site.nodes]
        first = uses[0]
        for other in uses[1:]:
            for a, b in zip(first, other, strict=True):
                if a is not None and b is not None and len(a) == len(b):
                    self.edges.append((a, b))
        if tied and first[0] is not None and first[1] is not None and len(first[0]) == len(first[1]):
            self.edges.append((first[0], first[1]))

    def components(self, sites: Sequence[OnnxSite]) -> ChannelComponents:
        """The connected components of the collected elements."""
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
            x, y = self.layer_inputs(site.nodes[0]), self.of(site.nodes[0].outputs[0])
            if x is not None and y is not None and self._is_layer_node(site.nodes[0]):
                links.append(ComponentLink(site=site, x=labels[x], y=labels[y]))
        shifts = [
            ChannelShift(node=s.node, place=s.place, trailing=s.trailing, at=labels[s.at])
            for s in self.shifts
        ]
        return ChannelComponents(
            count=count,
            links=links,
            shifts=shifts,
            pinned=pinned,
            at={value: labels[elements] for value, elements in self.at.items()},
            channel_preserving=self.channel_preserving,
            axes=self.axes,
            off_axis=self.off_axis.keys(),
        )


def _why_unreadable(value: ir.Value) -> str:
    """Why the numbers of a value that is constant aren't known."""
    if value.is_graph_input():
        return "a graph input, which a caller may override: --freeze-inputs fixes it"
    producer = value.producer()
    return "whose numbers aren't known" if producer is None else f"which {producer.op_type} computes"


def _first_input(node: ir.Node) -> ir.Value | None:
    """The first input of a layer: its data, or a weight on the left, which has no elements."""
    return node.inputs[0]
