"""Value numbering of channels: finds channels of a graph that are equal, and those that are constant.

Two channels have the same number if they are computed in the same way: by equal functions, with equal
constants, from channels with equal numbers. A channel of a layer is computed by its row of weights; zero
weights don't count, and weights on inputs with the same number are added up. A channel that has one value
everywhere, for any input of the model, is numbered by that value; operators on such channels are evaluated.

Nothing here is a guess: a channel of which nothing is known gets a number of its own.
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
from modelsurgeon.onnx.passes.channels.constant_channels import constant_output
from modelsurgeon.onnx.passes.channels.op_rules import RESHAPING, channel_axis
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims

Index = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelNumbers:
    """The number of every channel. of: value -> its channels' numbers. constants: number -> constant."""

    of: Mapping[ir.Value, Index]
    constants: Mapping[int, float]


def number_channels(
    context: PassContext, graph: ChannelComponents, sites: Sequence[OnnxSite]
) -> ChannelNumbers:
    """Number the channels of all values in the graph of channels."""
    linked = {link.site.name for link in graph.links}
    layers = {node: site.layer for site in sites if site.name in linked for node in site.nodes}
    numbering = _Numbering(context=context, graph=graph, layers=layers)
    for node in context.graph:
        numbering.add(node)
    return ChannelNumbers(
        of={value: numbering.numbers(value) for value in graph.at}, constants=numbering.constants
    )


@dataclass(kw_only=True, eq=False)
class _Numbering:
    context: PassContext
    graph: ChannelComponents
    layers: Mapping[ir.Node, Layer]
    of: dict[ir.Value, Index] = field(default_factory=dict)
    constants: dict[int, float] = field(default_factory=dict)
    known: dict[Hashable, int] = field(default_factory=dict)
    count: int = 0

    def numbers(self, value: ir.Value) -> Index:
        """The numbers of a value's channels; new ones where none are known."""
        if value not in self.of:
            self.of[value] = np.array([self._new() for _ in self.graph.at[value]], np.intp)
        return self.of[value]

    def add(self, node: ir.Node) -> None:
        """Number the channels of a node's output."""
        out = node.outputs[0] if node.outputs else None
        if out is None or out not in self.graph.at:
            return
        data = [value for value in node.inputs if value is not None and value in self.graph.at]
        if node in self.layers and len(data) == 1:
            found: list[int] | None = self._layer_numbers(
                self.layers[node], self._input_numbers(node, data[0])
            )
        else:
            found = self._channelwise_numbers(node, data)
        if found is not None and len(found) == len(self.graph.at[out]):
            self.of[out] = np.array(found, np.intp)

    def _input_numbers(self, node: ir.Node, value: ir.Value) -> Index:
        """The numbers of a layer's input channels; new ones where it works on another axis."""
        if node not in self.graph.off_axis:
            return self.numbers(value)
        return np.array([self._new() for _ in range(self.layers[node].in_channels)], np.intp)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _number_for(self, key: Hashable) -> int:
        if key not in self.known:
            self.known[key] = self._new()
        return self.known[key]

    def _constant_number(self, value: float) -> int:
        found = self._number_for(("constant", value))
        self.constants[found] = value
        return found

    def _layer_numbers(self, layer: Layer, inputs: Index) -> list[int]:
        """The numbers of a layer's output channels."""
        found = []
        geometry = (layer.kernel, layer.stride, layer.padding, layer.dilation, layer.transposed,
                    layer.output_padding)  # fmt: skip
        rows, columns = layer.out_channels // layer.groups, layer.weight.shape[1]
        for group in range(layer.groups):
            part = slice(group * rows, (group + 1) * rows)
            ids = inputs[group * columns : (group + 1) * columns]
            bias = np.zeros(rows) if layer.bias is None else layer.bias[part].astype(np.float64)
            weight, shift = merge_inputs(layer, layer.weight[part], ids, self.constants)
            for row, start in zip(weight, bias + shift, strict=True):
                used = row.reshape(columns, -1).any(axis=1)
                if not used.any():
                    found.append(self._constant_number(float(start)))
                    continue
                order = np.argsort(ids[used], kind="stable")
                digest = blake2b(ids[used][order].tobytes())
                digest.update(row[used][order].tobytes())
                found.append(self._number_for(("layer", geometry, float(start), digest.digest())))
        return found

    def _channelwise_numbers(self, node: ir.Node, data: Sequence[ir.Value]) -> list[int] | None:
        """The output numbers of a node that works on each channel separately; None for other nodes."""
        if node not in self.graph.channel_preserving or (node.op_type == "Dropout" and len(node.inputs) > 2):
            return None
        if node.op_type == "Concat":
            return [int(n) for value in data for n in self.numbers(value)]
        if node.op_type in RESHAPING:
            return self._reshaped_numbers(node, data[0])
        count = len(self.graph.at[data[0]])
        columns = [self._operand_keys(node, value, count) for value in node.inputs]
        if any(column is None for column in columns):
            return None
        signature = (node.op_type, str(sorted((name, str(a)) for name, a in node.attributes.items())))
        rows = zip(*(column for column in columns if column is not None), strict=True)
        return [self._channel_number(node, signature, row) for row in rows]

    def _operand_keys(self, node: ir.Node, value: ir.Value | None, count: int) -> list[Hashable] | None:
        """The key of one input for every channel: its number or a constant; None where neither is known."""
        if value is None:
            return [None] * count
        if value in self.graph.at:
            return [int(n) for n in self.numbers(value)]
        array = constant_array(value)
        if array is None:
            return None
        axis = channel_axis(node, array, *self.graph.place(self.context, node.outputs[0]))
        if axis is None:
            return [_ConstantKey(array)] * count
        return [_ConstantKey(part) for part in np.moveaxis(array, axis, 0)]

    def _channel_number(self, node: ir.Node, signature: Hashable, row: Sequence[Hashable]) -> int:
        """The number of an output channel, from the keys of its operands."""
        found = constant_output(node, [self._operand_value(key) for key in row if key is not None])
        return self._number_for((signature, tuple(row))) if found is None else self._constant_number(found)

    def _operand_value(self, operand: Hashable) -> float | None:
        """The one value that an operand has everywhere; None where there isn't one."""
        if isinstance(operand, _ConstantKey):
            return operand.value
        return self.constants.get(operand) if isinstance(operand, int) else None

    def _reshaped_numbers(self, node: ir.Node, value: ir.Value) -> list[int] | None:
        """The numbers after a reshape that keeps channels or flattens them to features; None for others."""
        before, after = (dims(self.context, v) for v in (value, node.outputs[0]))
        if before is None or after is None or None in before[1:]:
            return None
        numbers = self.numbers(value)
        positions = int(np.prod([n or 1 for n in before[2:]]))
        if before[1] == after[1]:
            return [int(n) for n in numbers]
        if after[1] != len(numbers) * positions:
            return None
        return [
            int(n) if int(n) in self.constants else self._number_for(("position", int(n), place))
            for n in numbers
            for place in range(positions)
        ]


class _ConstantKey:
    """A constant array as part of a key, compared by its contents."""

    def __init__(self, array: Array) -> None:
        self.key = (array.shape, array.tobytes())
        self.value = float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ConstantKey) and self.key == other.key


def first_with_number(ids: Index) -> Index:
    """For every channel the index of the first channel with its number."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(first[inverse.ravel()], np.intp)


def merge_inputs(
    layer: Layer, weight: Array, ids: Index, constants: Mapping[int, float]
) -> tuple[Array, NDArray[np.float64]]:
    """Weights of one group, `(rows, columns, *kernel)`, with those of equal channels added on the first.

    Weights of constant channels become zero; what they add to every output is returned separately, `(rows,)`.
    With padding that holds only for the constant 0: the weights of other constants are added up on the
    largest of them, scaled by their ratios.
    """
    weight, shift = np.array(weight), np.zeros(len(weight))
    unpadded = not layer.kernel or not (layer.transposed or any(map(any, layer.padding)))
    values = [constants.get(int(number)) for number in ids]
    largest = max(range(len(ids)), key=lambda column: abs(values[column] or 0), default=0)
    for column, first in enumerate(first_with_number(ids)):
        value = values[column]
        if value is not None and (value == 0 or unpadded):
            shift += value * weight[:, column].reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
        elif value is not None and column != largest:
            weight[:, largest] += (weight[:, column] * (value / (values[largest] or 1))).astype(weight.dtype)
        elif value is None and first != column:
            weight[:, first] += weight[:, column]
        else:
            continue
        weight[:, column] = 0
    return weight, shift
