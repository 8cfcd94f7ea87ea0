"""Shape rules of com.microsoft.nchwc: Conv and pools of maps whose channels lie in blocks of 8 or 16.

onnxruntime writes these when it saves a model that it has optimized for its CPU. It pads the channels of a
map, and the filters of a Conv, to whole blocks with zeros. A shape here has the channels without the padding,
so that the costs are those of the model that was optimized.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.layers.onnx_names import NCHWC_DOMAIN
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.shapes.rules.contrib_windows import map_sizes, with_maps
from modelsurgeon.onnx.shapes.rules.parts import integers, known_inputs, same_as_first
from modelsurgeon.onnx.shapes.rules.registration import register_missing
from modelsurgeon.onnx.shapes.rules.sizes import Size, window_counts

MAX_BLOCK = 16
FILTERS_KEY = "modelsurgeon.filters"  # node.meta: number of filters of a Conv that aren't padding


def register() -> None:
    """Add the rules to the registry."""
    for op, rule in (
        ("Conv", _conv),
        ("MaxPool", _pool),
        ("AveragePool", _pool),
        ("GlobalMaxPool", _global_pool),
        ("GlobalAveragePool", _global_pool),
        ("Upsample", _upsample),
        ("ReorderInput", _reorder_input),
        ("ReorderOutput", _reorder_output),
    ):
        register_missing(NCHWC_DOMAIN, op, rule)


def _conv(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Weight (filters, in / groups, *kernel), an optional bias, and an optional tensor that is added."""
    data, weight = known_inputs(node, 2)
    maps = map_sizes(node, data)
    if maps is None or weight.shape is None or data.shape is None:
        return
    sizes, channels = maps
    kernel = integers(node, "kernel_shape") or list(weight.shape)[2:]
    counts = window_counts(node, sizes, kernel)
    shape = with_maps(data.shape, counts, channels=_filters(node, weight, channels), channels_last=False)
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _filters(node: ir.Node, weight: ir.Value, channels: Size) -> Size:
    """Number of filters without the padding.

    Those of a depthwise Conv are its channels; else they are what a consumer that leaves the domain takes, or
    those of the tensor that is added; else a run of filters at the end that are zero is padding.
    """
    stored = weight.shape[0] if weight.shape is not None else channels
    if not isinstance(stored, int):
        return stored
    if node.attributes.get_int("group", 1) == stored:
        return channels
    for consumer, _ in node.outputs[0].uses():
        if consumer.domain == NCHWC_DOMAIN and consumer.op_type == "ReorderOutput":
            return consumer.attributes.get_int("channels", stored)
    added = node.inputs[3] if len(node.inputs) > 3 else None
    if added is not None and added.shape is not None and added.shape.rank() > 1:
        return added.shape[1]
    if FILTERS_KEY not in node.meta:
        node.meta[FILTERS_KEY] = stored - _zero_filters(
            weight, node.inputs[2] if len(node.inputs) > 2 else None
        )
    return int(node.meta[FILTERS_KEY])


def _zero_filters(weight: ir.Value, bias: ir.Value | None) -> int:
    """Number of filters at the end, fewer than a block, whose weights and bias are all zero.

    The weights lie in blocks of filters: (filters / block, ..., block).
    """
    tensor = constant_tensor(weight)
    if tensor is None:
        return 0
    array = np.asarray(tensor.numpy())
    for block in (MAX_BLOCK, MAX_BLOCK // 2):
        if array.shape[0] % block == 0 and array.size:
            last = array.reshape(array.shape[0] // block, -1, block)[-1]
            if padding := _zeros_at_the_end(last.any(axis=0)):
                addends = None if bias is None else constant_tensor(bias)
                if bias is None:
                    return padding
                return 0 if addends is None else min(padding, _zeros_at_the_end(addends.numpy() != 0))
    return 0


def _zeros_at_the_end(used: np.ndarray) -> int:
    """Number of false entries after the last true one; 0 where all are false."""
    return int(np.argmax(used[::-1]))


def _pool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """One result for each window of `kernel_shape`."""
    (data,) = known_inputs(node, 1)
    if (maps := map_sizes(node, data)) is not None and data.shape is not None:
        sizes, channels = maps
        counts = window_counts(node, sizes, integers(node, "kernel_shape"))
        shape = with_maps(data.shape, counts, channels=channels, channels_last=False)
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _global_pool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """One result for each map."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        shape = ir.Shape([*data.shape.dims[:2], *[1] * (data.shape.rank() - 2)])
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _upsample(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Every axis is multiplied by the entry of `scales`; all 1 without that."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        scales = integers(node, "scales") or [1] * data.shape.rank()
        dims = [size * scale for size, scale in zip(data.shape, scales, strict=True)]
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


def _reorder_input(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Maps with the channels first or last, into blocks."""
    (data,) = known_inputs(node, 1)
    if not node.attributes.get_int("channels_last", 0):
        same_as_first(ctx, node)
    elif (maps := map_sizes(node, data)) is not None and data.shape is not None:
        sizes, channels = maps
        shape = with_maps(data.shape, sizes, channels=channels, channels_last=False)
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _reorder_output(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Maps in blocks, with the channels first or last; the padding is dropped."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        channels = node.attributes.get_int("channels", 0)
        last = bool(node.attributes.get_int("channels_last", 0))
        shape = with_maps(data.shape, data.shape.dims[2:], channels=channels, channels_last=last)
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)
