"""Which channels of a graph are alike, and which are one constant: value numbering, channel by channel.

Two channels have one number if they are made in the same way: by equal functions, with equal constants, of
channels that have equal numbers. A channel of a layer is made by its row of weights; weights that are zero
don't count, and those on inputs with one number count together. A channel that is the same number everywhere,
whatever the model is fed, is known by that; a non-linearity of it is computed.

Nothing here is a guess: what isn't known gets a number of its own.
Source: Alpern, Wegman, Zadeck: Detecting equality of variables in programs (1988), for values of a program.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.onnx.passes.channels.components import ChannelComponents
from modelsurgeon.onnx.passes.channels.constant_channels import of_numbers
from modelsurgeon.onnx.passes.channels.op_rules import RESHAPING, channel_axis
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims

Index = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelNumbers:
    """The number of every channel. of: value -> its channels' numbers. constants: number -> what it is."""

    of: Mapping[ir.Value, Index]
    constants: Mapping[int, float]


def number(subject: PassContext, graph: ChannelComponents, sites: Sequence[OnnxSite]) -> ChannelNumbers:
    """Number the channels of all values that the graph of channels knows."""
    linked = {link.site.name for link in graph.links}
    layers = {node: site.layer for site in sites if site.name in linked for node in site.nodes}
    made = _Numbering(subject=subject, graph=graph, layers=layers)
    for node in subject.graph:
        made.add(node)
    return ChannelNumbers(of={value: made.numbers(value) for value in graph.at}, constants=made.constants)


@dataclass(kw_only=True, eq=False)
class _Numbering:
    subject: PassContext
    graph: ChannelComponents
    layers: Mapping[ir.Node, Layer]
    of: dict[ir.Value, Index] = field(default_factory=dict)
    constants: dict[int, float] = field(default_factory=dict)
    known: dict[Hashable, int] = field(default_factory=dict)
    count: int = 0

    def numbers(self, value: ir.Value) -> Index:
        """Those of a value; new ones where nothing is known of it."""
        if value not in self.of:
            self.of[value] = np.array([self._new() for _ in self.graph.at[value]], np.intp)
        return self.of[value]

    def add(self, node: ir.Node) -> None:
        """Number what a node gives."""
        out = node.outputs[0] if node.outputs else None
        if out is None or out not in self.graph.at:
            return
        data = [value for value in node.inputs if value is not None and value in self.graph.at]
        if node in self.layers and len(data) == 1:
            found: list[int] | None = self._rows(self.layers[node], self._inputs(node, data[0]))
        else:
            found = self._each(node, data)
        if found is not None and len(found) == len(self.graph.at[out]):
            self.of[out] = np.array(found, np.intp)

    def _inputs(self, node: ir.Node, value: ir.Value) -> Index:
        """The numbers of what a layer takes; new ones where its input has other channels."""
        if node not in self.graph.loose:
            return self.numbers(value)
        return np.array([self._new() for _ in range(self.layers[node].in_channels)], np.intp)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _keyed(self, key: Hashable) -> int:
        if key not in self.known:
            self.known[key] = self._new()
        return self.known[key]

    def _constant(self, value: float) -> int:
        found = self._keyed(("constant", value))
        self.constants[found] = value
        return found

    def _rows(self, layer: Layer, inputs: Index) -> list[int]:
        """The numbers of a layer's outputs."""
        found = []
        geometry = (layer.kernel, layer.stride, layer.padding, layer.dilation, layer.transposed,
                    layer.output_padding)  # fmt: skip
        rows, columns = layer.out_channels // layer.groups, layer.weight.shape[1]
        for group in range(layer.groups):
            part = slice(group * rows, (group + 1) * rows)
            ids = inputs[group * columns : (group + 1) * columns]
            bias = np.zeros(rows) if layer.bias is None else layer.bias[part].astype(np.float64)
            weight, shift = folded(layer, layer.weight[part], ids, self.constants)
            for row, start in zip(weight, bias + shift, strict=True):
                used = row.reshape(columns, -1).any(axis=1)
                if not used.any():
                    found.append(self._constant(float(start)))
                    continue
                order = np.argsort(ids[used], kind="stable")
                digest = blake2b(ids[used][order].tobytes())
                digest.update(row[used][order].tobytes())
                found.append(self._keyed(("layer", geometry, float(start), digest.digest())))
        return found

    def _each(self, node: ir.Node, data: Sequence[ir.Value]) -> list[int] | None:
        """The numbers of what a node makes of each channel by itself; None where it isn't known to."""
        if node not in self.graph.handing or (node.op_type == "Dropout" and len(node.inputs) > 2):
            return None
        if node.op_type == "Concat":
            return [int(n) for value in data for n in self.numbers(value)]
        if node.op_type in RESHAPING:
            return self._reshaped(node, data[0])
        count = len(self.graph.at[data[0]])
        columns = [self._operands(node, value, count) for value in node.inputs]
        if any(column is None for column in columns):
            return None
        signature = (node.op_type, str(sorted((name, str(a)) for name, a in node.attributes.items())))
        rows = zip(*(column for column in columns if column is not None), strict=True)
        return [self._made(node, signature, row) for row in rows]

    def _operands(self, node: ir.Node, value: ir.Value | None, count: int) -> list[Hashable] | None:
        """What a node takes per channel from one of its inputs: a number, or a constant."""
        if value is None:
            return [None] * count
        if value in self.graph.at:
            return [int(n) for n in self.numbers(value)]
        array = constant_array(value)
        if array is None:
            return None
        axis = channel_axis(node, array, *self.graph.place(self.subject, node.outputs[0]))
        if axis is None:
            return [_Held(array)] * count
        return [_Held(part) for part in np.moveaxis(array, axis, 0)]

    def _made(self, node: ir.Node, signature: Hashable, row: Sequence[Hashable]) -> int:
        """The number of a function of one channel."""
        found = of_numbers(node, [self._value(each) for each in row if each is not None])
        return self._keyed((signature, tuple(row))) if found is None else self._constant(found)

    def _value(self, operand: Hashable) -> float | None:
        """The one number that an operand is everywhere; None where it isn't."""
        if isinstance(operand, _Held):
            return operand.value
        return self.constants.get(operand) if isinstance(operand, int) else None

    def _reshaped(self, node: ir.Node, value: ir.Value) -> list[int] | None:
        """Channels as features, or the other way round where nothing changes."""
        before, after = (dims(self.subject, each) for each in (value, node.outputs[0]))
        if before is None or after is None or None in before[1:]:
            return None
        numbers = self.numbers(value)
        positions = int(np.prod([n or 1 for n in before[2:]]))
        if before[1] == after[1]:
            return [int(n) for n in numbers]
        if after[1] != len(numbers) * positions:
            return None
        return [
            int(n) if int(n) in self.constants else self._keyed(("position", int(n), place))
            for n in numbers
            for place in range(positions)
        ]


class _Held:
    """A constant as part of a key."""

    def __init__(self, array: Array) -> None:
        self.key = (array.shape, array.tobytes())
        self.value = float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.key == other.key


def first_of(ids: Index) -> Index:
    """For every channel the first one with its number."""
    _, first, back = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(first[back.ravel()], np.intp)


def folded(
    layer: Layer, weight: Array, ids: Index, constants: Mapping[int, float]
) -> tuple[Array, NDArray[np.float64]]:
    """Weights of one group, `(rows, columns, *kernel)`, with those of each number on its first channel.

    Those of channels that are constant are zero, and what they add to every output stands apart, `(rows,)`;
    at a padded edge a constant other than 0 adds something else, and stays.
    """
    weight, shift = np.array(weight), np.zeros(len(weight))
    borderless = not layer.kernel or not (layer.transposed or any(map(any, layer.padding)))
    for column, first in enumerate(first_of(ids)):
        value = constants.get(int(ids[column]))
        if value is not None and (value == 0 or borderless):
            shift += value * weight[:, column].reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
        elif first != column:
            weight[:, first] += weight[:, column]
        else:
            continue
        weight[:, column] = 0
    return weight, shift
