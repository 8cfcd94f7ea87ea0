"""Channels in blocks: what of the weight of a Conv in com.microsoft.nchwc is padding.

onnxruntime writes this domain when it saves a model that it has optimized for its CPU. It lays channels and
filters in blocks of 8 or 16, and fills the last block up with zeros. The file doesn't say how many there were
before. That is known where a map enters or leaves the domain; elsewhere channels at the end of a map, fewer
than a block, are padding where all weights before and behind them are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.layers.onnx_names import NCHWC_DOMAIN
from modelsurgeon.onnx.graph.constant_folding import constant_tensor, small_constant

CHANNEL_BY_CHANNEL = frozenset(
    (
        *("Add", "AveragePool", "Clip", "Div", "Elu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid"),
        *("HardSwish", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "QuickGelu", "Relu", "Sigmoid", "Sub"),
        *("Sum", "Tanh", "Upsample"),
    )
)
BLOCKS = (16, 8)  # the sizes of a block, on CPUs with AVX-512 and without
CHANNELS_KEY = "modelsurgeon.blocked"  # node.meta: channels without the padding


@dataclass(frozen=True, kw_only=True)
class BlockedChannels:
    """Filters, and channels of each, that aren't padding."""

    filters: int
    channels: int


def blocked_channels(node: ir.Node) -> BlockedChannels | None:
    """Filters and channels of a Conv without the padding; None where the shape of its weight is unknown.

    Weights are read, once.
    """
    if CHANNELS_KEY not in node.meta:
        node.meta[CHANNELS_KEY] = _counted(node)
    found: BlockedChannels | None = node.meta[CHANNELS_KEY]
    return found


def padded_channels(node: ir.Node, channels: int) -> int:
    """Channels that a ReorderInput makes: those that a Conv behind it takes, or whole blocks."""
    for consumer, index in node.outputs[0].uses():
        weight = consumer.inputs[1] if index == 0 and _is_conv(consumer) else None
        if weight is not None and weight.shape is not None and isinstance(weight.shape[1], int):
            return weight.shape[1] * consumer.attributes.get_int("group", 1)
    block = _block_size(node.graph)
    return -(-channels // block) * block


def _block_size(graph: ir.Graph | ir.Function | None) -> int:
    """The size of a block: all filters of a graph come in whole ones."""
    weights = (node.inputs[1] for node in graph or () if _is_conv(node))
    counts = [weight.shape[0] for weight in weights if weight is not None and weight.shape is not None]
    large, small = BLOCKS
    return large if all(count % large == 0 for count in counts) else small


def _is_conv(node: ir.Node) -> bool:
    return node.domain == NCHWC_DOMAIN and node.op_type == "Conv" and len(node.inputs) > 1


def _counted(node: ir.Node) -> BlockedChannels | None:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or weight.shape is None or not weight.shape.is_static() or weight.shape.rank() < 3:
        return None
    filters, channels = (int(size) for size in weight.shape.numpy()[:2])
    if node.attributes.get_int("group", 1) == 1 and node.inputs[0] is not None:
        channels = _channels(node.inputs[0], channels)
    return BlockedChannels(filters=_channels(node.outputs[0], filters), channels=channels)


def _channels(value: ir.Value, stored: int) -> int:
    """Channels of a map without the padding, of those that are stored.

    Where the map enters or leaves the domain, or is joined to others, they are known. Else they are the most
    that a Conv with the map as input or output has weights for that aren't zero.
    """
    maps = _maps_of_equal_channels(value)
    known = [count for one in maps for count in _known_channels(one) if 0 < count <= stored]
    used = [count for one in maps for count in _used_channels(one) if 0 < count <= stored]
    return min(known) if known else max(used, default=stored)


def _maps_of_equal_channels(value: ir.Value) -> list[ir.Value]:
    """The map, and all that operators make of it, or it of, channel by channel."""
    found = [value]
    seen = {value}
    for one in found:
        for other in _linked(one):
            if other not in seen:
                seen.add(other)
                found.append(other)
    return found


def _linked(value: ir.Value) -> Iterator[ir.Value]:
    for consumer, index in value.uses():
        if index in _linked_inputs(consumer):
            yield consumer.outputs[0]
    producer = value.producer()
    if producer is not None:
        for index in _linked_inputs(producer):
            data = producer.inputs[index] if index < len(producer.inputs) else None
            if data is not None and not data.is_initializer():
                yield data


def _linked_inputs(node: ir.Node) -> tuple[int, ...]:
    """The inputs that have the channels of the output: of a Conv what is added, and its data if depthwise."""
    if _is_conv(node):
        return (0, 3) if _is_depthwise(node) else (3,)
    if node.op_type == "Reshape":
        return (0,) if _moves_blocks(node) else ()
    if node.op_type in CHANNEL_BY_CHANNEL:
        return tuple(range(len(node.inputs)))
    return ()


def _moves_blocks(node: ir.Node) -> bool:
    """Whether a Reshape gives blocks of channels an axis of their own, at the end, or takes it away."""
    target = small_constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return target is not None and target.tolist()[:4] == [0, -1, 0, 0] and target.size in (4, 5)


def _known_channels(value: ir.Value) -> Iterator[int]:
    """Channels of a map, where an operator or a shape says how many aren't padding."""
    producer = value.producer()
    if producer is None and value.shape is not None and value.shape.rank() > 2:
        yield _number(value.shape[1])
    for node in (producer, *(consumer for consumer, _ in value.uses())):
        if node is None:
            continue
        if node.op_type == "ReorderOutput":
            yield node.attributes.get_int("channels", 0)
        elif node.op_type == "Concat" and value.shape is not None and value.shape.rank() > 1:
            yield _number(value.shape[1])
    if producer is not None and producer.op_type == "ReorderInput" and producer.inputs[0] is not None:
        shape = producer.inputs[0].shape
        last = bool(producer.attributes.get_int("channels_last", 0))
        if shape is not None:
            yield _number(shape[-1 if last else 1])


def _number(size: int | ir.SymbolicDim) -> int:
    return size if isinstance(size, int) else 0


def _used_channels(value: ir.Value) -> Iterator[int]:
    """Channels of a map for which a Conv before or behind it has weights that aren't zero."""
    producer = value.producer()
    if producer is not None and _is_conv(producer):
        array = _weights(producer)
        yield array.shape[0] - _zero_filters(array, producer) if array.size else 0
    for consumer, index in value.uses():
        if index == 0 and _is_conv(consumer) and consumer.attributes.get_int("group", 1) == 1:
            array = _weights(consumer)
            yield array.shape[1] - _zero_channels(array) if array.size else 0


def _is_depthwise(node: ir.Node) -> bool:
    weight = node.inputs[1]
    groups = node.attributes.get_int("group", 1)
    return groups > 1 and weight is not None and weight.shape is not None and weight.shape[0] == groups


def _weights(node: ir.Node) -> NDArray[np.generic]:
    tensor = constant_tensor(node.inputs[1])
    return np.zeros(0) if tensor is None else np.asarray(tensor.numpy())


def _zero_filters(array: NDArray[np.generic], node: ir.Node) -> int:
    """Number of filters at the end, fewer than a block, whose weights and bias are zero.

    Whatever the order of the other axes is, the last one is that of the filters in a block.
    """
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    addends = None if bias is None else constant_tensor(bias)
    if not array.size or (bias is not None and addends is None):
        return 0
    for block in BLOCKS:
        if array.shape[0] % block == 0:
            last = array.reshape(array.shape[0] // block, -1, block)[-1]
            if addends is not None:
                last = np.vstack((last, np.asarray(addends.numpy()).reshape(-1, block)[-1]))
            if padding := _unused_at_the_end(last.any(axis=0)):
                return padding
    return 0


def _zero_channels(array: NDArray[np.generic]) -> int:
    """Number of channels at the end, fewer than a block, whose weights are zero; (.., channels, filters)."""
    for block in BLOCKS:
        if array.size and array.shape[0] % block == 0 and array.shape[1] % block == 0:
            blocks = (array.shape[0] // block, array.shape[1] // block, -1, block, block)
            if padding := _unused_at_the_end(array.reshape(blocks)[:, -1].any(axis=(0, 1, 3))):
                return padding
    return 0


def _unused_at_the_end(used: Any) -> int:  # noqa: ANN401 - numpy types the result of any() as a number, too
    """Number of false entries after the last true one; 0 where all are false."""
    return int(np.argmax(used[::-1]))
