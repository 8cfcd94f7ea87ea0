"""Shape rules of onnxruntime's convolutions and pools, with the channels first, last or in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_shape_inference import OpUsageError, ShapeInferenceContext

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.rules.parts import contents, integers, known_inputs
from modelsurgeon.onnx.shapes.rules.registration import register_instead, register_missing
from modelsurgeon.onnx.shapes.rules.sizes import Size, window_counts


def register() -> None:
    """Add the rules to the registry."""
    for op in ("NhwcConv", "NhwcFusedConv"):
        register_missing(MICROSOFT_DOMAIN, op, _channels_last_conv)
    register_missing(MICROSOFT_DOMAIN, "NhwcMaxPool", _pool)
    register_missing(MICROSOFT_DOMAIN, "MaxpoolWithMask", _pool)
    register_missing(MICROSOFT_DOMAIN, "ConvTransposeWithDynamicPads", _transposed_conv)
    register_missing(MICROSOFT_DOMAIN, "CropAndResize", _crop_and_resize)
    register_missing(MICROSOFT_DOMAIN, "WordConvEmbedding", _word_embedding)
    register_missing(MICROSOFT_DOMAIN, "UnfoldTensor", _unfold)
    # The library gives these the shape of their input.
    register_instead(MICROSOFT_DOMAIN, "QLinearAveragePool", _pool)
    register_instead(MICROSOFT_DOMAIN, "QLinearGlobalAveragePool", _global_pool)
    for op in ("QLinearReduceMean", "ReduceSumInteger"):
        register_instead(MICROSOFT_DOMAIN, op, _reduce)


def has_channels_last(node: ir.Node) -> bool:
    """Whether an operator's maps are (batch, *spatial, channels)."""
    return node.op_type.startswith("Nhwc") or bool(node.attributes.get_int("channels_last", 0))


def with_maps(shape: ir.Shape, sizes: Sequence[Size], *, channels: Size, channels_last: bool) -> ir.Shape:
    """The shape with maps of these sizes."""
    return ir.Shape([shape[0], *sizes, channels] if channels_last else [shape[0], channels, *sizes])


def map_sizes(node: ir.Node, data: ir.Value) -> tuple[Sequence[Size], Size] | None:
    """Sizes of the maps, and the number of channels; None where the shape isn't known."""
    if data.shape is None:
        return None
    if data.shape.rank() < 3:
        raise OpUsageError(node, f"a map has a batch, channels and at least one axis, not {data.shape}")
    dims = data.shape.dims
    return (dims[1:-1], dims[-1]) if has_channels_last(node) else (dims[2:], dims[1])


def _pool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """One result for each window of `kernel_shape`; the type is that of the input."""
    (data,) = known_inputs(node, 1)
    if (maps := map_sizes(node, data)) is not None and data.shape is not None:
        sizes, channels = maps
        counts = window_counts(node, sizes, integers(node, "kernel_shape"))
        shape = with_maps(data.shape, counts, channels=channels, channels_last=has_channels_last(node))
        ctx.set_shape(node.outputs[0], shape)
    if data.dtype is not None:
        ctx.set_dtype(node.outputs[0], data.dtype)


def _global_pool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """One result for each map."""
    (data,) = known_inputs(node, 1)
    if (maps := map_sizes(node, data)) is not None and data.shape is not None:
        sizes, channels = maps
        shape = with_maps(
            data.shape, [1] * len(sizes), channels=channels, channels_last=has_channels_last(node)
        )
        ctx.set_shape(node.outputs[0], shape)
    if data.dtype is not None:
        ctx.set_dtype(node.outputs[0], data.dtype)


def _reduce(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The axes of the attribute `axes` (all without it) become 1, or go where `keepdims` is 0."""
    (data,) = known_inputs(node, 1)
    dtype = ir.DataType.INT32 if node.op_type == "ReduceSumInteger" else data.dtype
    if dtype is not None:
        ctx.set_dtype(node.outputs[0], dtype)
    if data.shape is None:
        return
    rank = data.shape.rank()
    axes = {axis % rank for axis in integers(node, "axes")} or set(range(rank))
    if node.attributes.get_int("keepdims", 1):
        dims = [1 if axis in axes else size for axis, size in enumerate(data.shape)]
    else:
        dims = [size for axis, size in enumerate(data.shape) if axis not in axes]
    ctx.set_shape(node.outputs[0], ir.Shape(dims))


def _channels_last_conv(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Input (batch, *spatial, channels), weight (out, in / groups, *kernel) as in Conv."""
    data, weight = known_inputs(node, 2)
    if (maps := map_sizes(node, data)) is None or weight.shape is None or data.shape is None:
        return
    kernel = integers(node, "kernel_shape") or list(weight.shape)[2:]
    counts = window_counts(node, maps[0], kernel)
    shape = with_maps(data.shape, counts, channels=weight.shape[0], channels_last=True)
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _transposed_conv(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """ConvTranspose with the padding as an input: (begin, ..., end, ...)."""
    data, weight, padding = known_inputs(node, 3)
    if (maps := map_sizes(node, data)) is None or weight.shape is None or data.shape is None:
        return
    sizes, _ = maps
    axes = len(sizes)
    pads = contents(ctx, padding) or []
    strides, dilations = (integers(node, name) or [1] * axes for name in ("strides", "dilations"))
    extra = integers(node, "output_padding") or [0] * axes
    kernel = integers(node, "kernel_shape") or list(weight.shape)[2:]
    spread: list[Size] = []
    for axis, (size, taps) in enumerate(zip(sizes, kernel, strict=True)):
        whole = strides[axis] * (size - 1) + extra[axis] + dilations[axis] * (taps - 1) + 1
        is_known = len(pads) == 2 * axes
        spread.append(whole - pads[axis] - pads[axis + axes] if is_known else ctx.new_symbolic_dim())
    channels = weight.shape[1] * node.attributes.get_int("group", 1)
    shape = with_maps(data.shape, spread, channels=channels, channels_last=False)
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _crop_and_resize(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A map of `crop_size`, an input, for each region and channel."""
    data, regions, _, size = known_inputs(node, 4)
    if data.shape is None or regions.shape is None:
        return
    crop = contents(ctx, size) or [ctx.new_symbolic_dim(), ctx.new_symbolic_dim()]
    shape = ir.Shape([regions.shape[0], data.shape[1], *crop])
    ctx.set_shape_and_dtype(node.outputs[0], shape, data.dtype)


def _word_embedding(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Words (words, letters) and filters (out, 1, letters of a window, size of a letter) -> (words, out)."""
    words, weight = known_inputs(node, 2)
    if words.shape is not None and weight.shape is not None:
        shape = ir.Shape([words.shape[0], weight.shape[0]])
        ctx.set_shape_and_dtype(node.outputs[0], shape, weight.dtype)


def _unfold(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Slices of length `size` along the axis `dim`, in a new last axis."""
    (data,) = known_inputs(node, 1)
    if data.shape is None:
        return
    length, step = node.attributes.get_int("size", 1), node.attributes.get_int("step", 1)
    dims = list(data.shape)
    axis = node.attributes.get_int("dim", -1)
    size = dims[axis]
    if isinstance(size, int) and size < length:
        raise OpUsageError(node, f"slices of {length} don't fit an axis of {size}")
    dims[axis] = (dims[axis] - length) // step + 1
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*dims, length]), data.dtype)
