"""Shape rules of operators on maps and regions, in place of onnx_shape_inference's."""

from __future__ import annotations

from math import prod

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.dimensions import as_dim, expression_of
from modelsurgeon.onnx.shapes.rules.parts import input_shape, integers, known_sizes, optional_input
from modelsurgeon.onnx.shapes.rules.registration import correct_rule, replace_rule

Size = int | ir.SymbolicDim


def register() -> None:
    """Replace the library's rules."""
    replace_rule("AffineGrid", _affine_grid)
    replace_rule("CenterCropPad", _center_crop_pad)
    replace_rule("Col2Im", _col2im)
    correct_rule("ConvTranspose", _same_transposed_conv)
    replace_rule("MaxRoiPool", _max_roi_pool)
    replace_rule("MaxUnpool", _max_unpool)
    replace_rule("RoiAlign", _roi_align)


def _set_like_first(ctx: ShapeInferenceContext, node: ir.Node, dims: list[Size] | None) -> None:
    """Set the shape of the output, in the type of the first input."""
    first = node.inputs[0]
    ctx.set_shape_and_dtype(
        node.outputs[0], None if dims is None else ir.Shape(dims), None if first is None else first.dtype
    )


def _affine_grid(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """theta (N, 2, 3), size (N, C, H, W) -> (N, H, W, 2), or with one axis more.

    The library takes N from the size, where theta's is what runs, and no size that follows from an open one.
    """
    theta, size = input_shape(node, 0), known_sizes(ctx, optional_input(node, 1))
    if size is None:
        _set_like_first(ctx, node, None)
    else:
        _set_like_first(ctx, node, [size[0] if theta is None else theta[0], *size[2:], len(size) - 2])


def _center_crop_pad(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The axes get the given sizes; the library knows none that follows from an open one."""
    shape, sizes = input_shape(node, 0), known_sizes(ctx, optional_input(node, 1))
    if shape is None:
        return _set_like_first(ctx, node, None)
    axes = integers(node, "axes") if "axes" in node.attributes else list(range(shape.rank()))
    if any(not -shape.rank() <= axis < shape.rank() for axis in axes):
        ctx.record_error(node, f"axes {axes} are out of range for {shape.rank()} axes")
    if sizes is not None and len(sizes) != len(axes):
        ctx.record_error(node, f"{len(sizes)} sizes are given for {len(axes)} axes")
    dims = list(shape)
    for axis, size in zip(axes, sizes or [ctx.new_symbolic_dim() for _ in axes], strict=True):
        dims[axis] = size
    return _set_like_first(ctx, node, dims)


def _col2im(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(N, C * block, L) -> (N, C, *image); the library knows no image size that follows from an open one."""
    shape = input_shape(node, 0)
    image, block = (known_sizes(ctx, optional_input(node, index)) for index in (1, 2))
    if shape is None or image is None:
        return _set_like_first(ctx, node, None)
    channels: Size = ctx.new_symbolic_dim()
    if block is not None:
        channels = as_dim(sympy.floor(expression_of(shape[1]) / prod(map(expression_of, block))))
    return _set_like_first(ctx, node, [shape[0], channels, *image])


def _same_transposed_conv(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Under SAME padding a size is multiplied by its stride, less what a smaller window doesn't reach.

    The library lets every window reach all, which needs a negative padding.
    """
    maps, weights, result = input_shape(node, 0), input_shape(node, 1), node.outputs[0].shape
    kernel: list[Size] = [*integers(node, "kernel_shape")] or [*(weights or ())][2:]
    is_same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    if not is_same or "output_shape" in node.attributes or maps is None or result is None:
        return
    rank = result.rank() - 2
    strides, dilations = (integers(node, name) or [1] * rank for name in ("strides", "dilations"))
    padding = integers(node, "output_padding") or [0] * rank
    opened = [
        size * stride + min(0, (taps - 1) * dilation + 1 + added - stride)
        if isinstance(taps, int)
        else size * stride
        for size, stride, taps, dilation, added in zip(
            maps[2:], strides, kernel, dilations, padding, strict=False
        )
    ]
    if len(opened) == rank:
        node.outputs[0].shape = ir.Shape([*result[:2], *opened])


def _max_roi_pool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_regions(ctx, node, integers(node, "pooled_shape"))


def _roi_align(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_regions(ctx, node, [node.attributes.get_int(f"output_{side}", 1) for side in ("height", "width")])


def _set_regions(ctx: ShapeInferenceContext, node: ir.Node, sizes: list[int]) -> None:
    """(regions, channels, *sizes); the library forgets open numbers of regions and channels."""
    maps, regions = input_shape(node, 0), input_shape(node, 1)
    counts = (None if regions is None else regions[0], None if maps is None else maps[1])
    _set_like_first(
        ctx, node, [*(ctx.new_symbolic_dim() if count is None else count for count in counts), *sizes]
    )


def _max_unpool(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The size that is given, or the one that was pooled; the library forgets the latter."""
    shape, given = input_shape(node, 0), optional_input(node, 2)
    if shape is None:
        return _set_like_first(ctx, node, None)
    if given is not None:
        sizes = known_sizes(ctx, given)
        return _set_like_first(ctx, node, sizes or [*shape[:2], *(ctx.new_symbolic_dim() for _ in shape[2:])])
    kernel = integers(node, "kernel_shape")
    strides = integers(node, "strides") or [1] * len(kernel)
    pads = integers(node, "pads") or [0] * 2 * len(kernel)
    padding = zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)
    opened = [
        (size - 1) * stride + taps - begin - end
        for size, stride, taps, (begin, end) in zip(shape[2:], strides, kernel, padding, strict=True)
    ]
    return _set_like_first(ctx, node, [*shape[:2], *opened])
