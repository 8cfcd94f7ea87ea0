"""Shape rules of com.microsoft.nchwc: Conv and pools of maps whose channels lie in blocks of 8 or 16.

Maps have their channels with the padding, as they are in memory: other operators between these reshape them.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.layers.onnx_names import NCHWC_DOMAIN
from modelsurgeon.onnx.graph.blocked_channels import padded_channels
from modelsurgeon.onnx.shapes.rules.contrib.windows import map_sizes, with_maps
from modelsurgeon.onnx.shapes.rules.parts import integers, known_inputs
from modelsurgeon.onnx.shapes.rules.registration import register_missing
from modelsurgeon.onnx.shapes.rules.sizes import window_counts


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
    kernel = integers(node, "kernel_shape") or list(weight.shape)[2:]
    counts = window_counts(node, maps[0], kernel)
    shape = with_maps(data.shape, counts, channels=weight.shape[0], channels_last=False)
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


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
    """Maps with the channels first or last, into blocks; the last one is filled up."""
    (data,) = known_inputs(node, 1)
    if (maps := map_sizes(node, data)) is not None and data.shape is not None:
        sizes, channels = maps
        padded = padded_channels(node, channels) if isinstance(channels, int) else channels
        shape = with_maps(data.shape, sizes, channels=padded, channels_last=False)
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _reorder_output(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Maps in blocks, with the channels first or last; the padding is dropped."""
    (data,) = known_inputs(node, 1)
    if data.shape is not None:
        channels = node.attributes.get_int("channels", 0)
        last = bool(node.attributes.get_int("channels_last", 0))
        shape = with_maps(data.shape, data.shape.dims[2:], channels=channels, channels_last=last)
        ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)
