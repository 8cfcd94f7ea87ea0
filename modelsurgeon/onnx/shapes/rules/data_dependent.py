"""Corrections for operators whose output sizes may come from data: what is known of them is kept.

onnx_shape_inference loses the rank of Expand, Tile and ConstantOfShape of an unknown size and the axes that
Slice, Pad and Resize leave alone.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import scalar_constant, small_constant
from modelsurgeon.onnx.shapes.rules.parts import input_shape, integers, optional_input
from modelsurgeon.onnx.shapes.rules.registration import correct_rule

Dim = int | ir.SymbolicDim

START_SHAPE_KEY = "modelsurgeon.start"  # value.meta: the shape that is laid down before inference
MAY_BE_LAID_DOWN = (  # standard operators with a correction, which might not keep the shapes laid down
    *(
        "AffineGrid",
        "BlackmanWindow",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConstantOfShape",
        "DFT",
        "Expand",
    ),
    *(
        "HammingWindow",
        "HannWindow",
        "MaxRoiPool",
        "MaxUnpool",
        "NonMaxSuppression",
        "NonZero",
        "OneHot",
        "Pad",
    ),
    *("Range", "Reshape", "Resize", "RoiAlign", "STFT", "Slice", "Split", "Squeeze", "StringNormalizer"),
    *("StringSplit", "Tile", "TopK", "Unique", "Upsample"),
)


def register() -> None:
    """Add the corrections to the registry."""
    for op, correct in (
        ("ConstantOfShape", _rank_of_target),
        ("Expand", _expand),
        ("Tile", _tile),
        ("Reshape", _keep_elements),
        ("Slice", _keep_other_axes),
        ("Pad", _keep_other_axes),
        ("Resize", _keep_other_axes),
        ("NonMaxSuppression", _no_boxes),
    ):
        correct_rule(op, correct)
    for op in MAY_BE_LAID_DOWN:
        correct_rule(op, _as_laid_down)


def _as_laid_down(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Keep the shapes that are laid down, but for sizes that this run of inference has found."""
    for value in node.outputs:
        start: ir.Shape | None = value.meta.get(START_SHAPE_KEY)
        if start is None:
            continue
        if value.shape is None or len(value.shape) != len(start):
            value.shape = start
        elif value.shape != start:
            pairs = zip(value.shape, start, strict=True)
            value.shape = ir.Shape([laid if _has_new(ctx, found) else found for found, laid in pairs])


def _has_new(ctx: ShapeInferenceContext, dim: Dim) -> bool:
    """Whether a size has a symbol that this run of inference made."""
    return isinstance(dim, ir.SymbolicDim) and any(map(ctx.is_generated_symbol, dim.free_symbols()))


def _target(ctx: ShapeInferenceContext, value: ir.Value | None) -> list[Dim] | None:
    """The contents of a vector of sizes, new symbols where they are unknown; None without its length."""
    if value is None:
        return None
    known: list[Dim] | None = ctx.get_symbolic_value(value)
    if known is not None:
        return known
    length = value.shape[0] if value.shape is not None and len(value.shape) == 1 else None
    return [ctx.new_symbolic_dim() for _ in range(length)] if isinstance(length, int) else None


def _rank_of_target(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the output of a ConstantOfShape the rank of its target, and the sizes that are known."""
    target = _target(ctx, optional_input(node, 0)) if node.outputs[0].shape is None else None
    if target is not None and all(not isinstance(size, int) or size >= 0 for size in target):
        node.outputs[0].shape = ir.Shape(target)


def _expand(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the output of an Expand to an unknown size its rank; an axis above 1 keeps its size."""
    data = input_shape(node, 0)
    if data is None or node.outputs[0].shape is not None:
        return
    target = _target(ctx, optional_input(node, 1))
    if target is None or any(isinstance(size, int) for size in target):
        return
    dims = [*target] if len(target) >= len(data) else [*data.dims[: len(data) - len(target)], *target]
    for back in range(1, len(data) + 1):
        if isinstance(size := data[-back], int) and size > 1:
            dims[-back] = size
    node.outputs[0].shape = ir.Shape(dims)


def _tile(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the output of a Tile with unknown repeats the rank of its input."""
    data = input_shape(node, 0)
    if data is not None and node.outputs[0].shape is None:
        node.outputs[0].shape = ir.Shape([ctx.new_symbolic_dim() for _ in data])


def _keep_elements(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Give the first unknown size of a reshaped tensor by the number of its elements and the other sizes."""
    data, result = input_shape(node, 0), node.outputs[0].shape
    if data is None or result is None:
        return
    dims = list(result)
    new = [axis for axis, dim in enumerate(dims) if _is_new(ctx, dim)]
    if not new or any(isinstance(dim, int) and dim < 1 for dim in (*dims, *data)):
        return
    is_done = any(_has_new(ctx, dim) and not _is_new(ctx, dim) for dim in dims)
    if is_done or any(_has_new(ctx, dim) for dim in data):
        return
    rest = [dim for axis, dim in enumerate(dims) if axis != new[0]]
    dims[new[0]] = _divided(_product([*data]), _product(rest))
    node.outputs[0].shape = ir.Shape(dims)


def _is_new(ctx: ShapeInferenceContext, dim: Dim) -> bool:
    """Whether a size is a symbol that this run of inference made."""
    return isinstance(dim, ir.SymbolicDim) and ctx.is_generated_symbol(str(dim))


def _product(dims: list[Dim]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def _divided(elements: Dim, rest: Dim) -> Dim:
    if isinstance(elements, ir.SymbolicDim):
        return elements // rest
    return elements // rest if isinstance(rest, int) else (elements / rest) // 1


def _keep_other_axes(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Keep the sizes of the axes that a Slice, Pad or Resize with unknown sizes leaves alone."""
    data, result = input_shape(node, 0), node.outputs[0].shape
    axes = _changed_axes(node)
    if data is None or result is None or len(data) != len(result) or axes is None:
        return
    changed = {axis % len(data) for axis in axes}
    kept = [axis for axis in range(len(data)) if axis not in changed]
    if any(_is_new(ctx, result[axis]) and result[axis] != data[axis] for axis in kept):
        node.outputs[0].shape = ir.Shape(
            [data[axis] if axis in kept else size for axis, size in enumerate(result)]
        )


def _changed_axes(node: ir.Node) -> list[int] | None:
    """The axes that a Slice, Pad or Resize names; None where it may change all."""
    if node.op_type == "Resize":
        return integers(node, "axes") or None
    value = optional_input(node, 3)
    axes = small_constant(value)
    if axes is not None:
        return [int(axis) for axis in axes.flatten()]
    starts = input_shape(node, 1)
    count = starts[0] if value is None and node.op_type == "Slice" and starts else None
    return list(range(count)) if isinstance(count, int) else None


def _no_boxes(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Without a limit of boxes for each class, or with one of 0, NonMaxSuppression keeps none."""
    limit = optional_input(node, 2)
    if limit is None or scalar_constant(limit) == 0:
        node.outputs[0].shape = ir.Shape([0, 3])
