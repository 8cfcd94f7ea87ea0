"""Shape rules of the operators of audio front ends: windows, mel filters, Fourier transforms."""

from __future__ import annotations

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.shapes.dimensions import as_dim, expression_of
from modelsurgeon.onnx.shapes.rules.parts import known_size, optional_input
from modelsurgeon.onnx.shapes.rules.registration import replace_rule

Size = int | ir.SymbolicDim


def register() -> None:
    """Replace the library's rules."""
    for op in ("BlackmanWindow", "HammingWindow", "HannWindow"):
        replace_rule(op, _window)
    replace_rule("MelWeightMatrix", _mel_weight_matrix)
    replace_rule("DFT", _dft)
    replace_rule("STFT", _stft)


def _window(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A vector of the given length; the library follows no open one."""
    length = _length(ctx, optional_input(node, 0))
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([length]), _output_type(node))


def _mel_weight_matrix(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(dft_length // 2 + 1, mel bins); the library takes the first two inputs as they come, undivided."""
    bands = _length(ctx, optional_input(node, 0))
    bins = _onesided(_length(ctx, optional_input(node, 1)))
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([bins, bands]), _output_type(node))


def _output_type(node: ir.Node) -> ir.DataType:
    return ir.DataType(node.attributes.get_int("output_datatype", ir.DataType.FLOAT.value))


def _length(ctx: ShapeInferenceContext, value: ir.Value | None) -> Size:
    """The size in a scalar; a new symbol where it isn't known."""
    size = known_size(ctx, value)
    return ctx.new_symbolic_dim() if size is None else size


def _onesided(length: Size) -> Size:
    """Bins of a real signal's transform."""
    return length // 2 + 1


def _dft(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The transformed axis gets the given length, or that of half a transform; the last becomes complex.

    The library knows no length that follows from an open size.
    """
    data = optional_input(node, 0)
    if data is None or data.shape is None:
        ctx.set_shape_and_dtype(node.outputs[0], None, None if data is None else data.dtype)
        return
    dims = list(data.shape)
    axis = _dft_axis(ctx, node)
    inverse, half = (node.attributes.get_int(name, 0) == 1 for name in ("inverse", "onesided"))
    given = optional_input(node, 1)
    if axis is None:
        dims[:-1] = [ctx.new_symbolic_dim() for _ in dims[:-1]]
    elif not -len(dims) <= axis < len(dims):
        ctx.record_error(node, f"axis {axis} is out of range for {len(dims)} axes")
    else:
        length = dims[axis] if given is None else _length(ctx, given)
        if half and inverse:
            dims[axis] = length if given is not None else (length - 1) * 2
        else:
            dims[axis] = _onesided(length) if half else length
    dims[-1] = 1 if half and inverse else 2
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


def _dft_axis(ctx: ShapeInferenceContext, node: ir.Node) -> int | None:
    """The transformed axis, an attribute before opset 20; None where it isn't known."""
    if ctx.opset < 20:
        return int(node.attributes.get_int("axis", 1))
    given = optional_input(node, 2)
    axis = -2 if given is None else known_size(ctx, given)
    return axis if isinstance(axis, int) else None


def _stft(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(batch, samples, ...) -> (batch, frames, bins, 2); the library knows no frames of an open signal."""
    signal, window = optional_input(node, 0), optional_input(node, 2)
    if signal is None or signal.shape is None:
        ctx.set_shape_and_dtype(node.outputs[0], None, None if signal is None else signal.dtype)
        return
    step, given = known_size(ctx, optional_input(node, 1)), optional_input(node, 3)
    if given is not None:
        length = known_size(ctx, given)
    else:
        length = window.shape[0] if window is not None and window.shape is not None else None
    frames: Size | None = None
    if step is not None and length is not None and step != 0:
        frames = _quotient(signal.shape[1] - length, step) + 1
    onesided = node.attributes.get_int("onesided", 1) == 1
    bins = None if length is None else _onesided(length) if onesided else length
    dims = [
        signal.shape[0],
        *(ctx.new_symbolic_dim() if size is None else size for size in (frames, bins)),
        2,
    ]
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), signal.dtype)


def _quotient(size: Size, divisor: Size) -> Size:
    if isinstance(size, int) and isinstance(divisor, int):
        return size // divisor
    return as_dim(sympy.floor(expression_of(size) / expression_of(divisor)))
