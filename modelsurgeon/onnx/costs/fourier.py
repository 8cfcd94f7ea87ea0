"""Fourier transforms: no MACs. An FFT of n points counts as 5 * n * log2(n) operations, as is the convention.

Source: M. Frigo and S. G. Johnson, "The Design and Implementation of FFTW3", Proceedings of the IEEE 93(2),
2005. Half of that for real signals. The logarithm is rounded up to a whole number.
"""

from __future__ import annotations

from math import prod

import sympy

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, Uncounted, counts


def _fft_cost(number: Number, points: Number, *, real: bool) -> Cost:
    """Cost of `number` transforms of `points` points each."""
    return Cost(other=number * _divide_rounding_up(5 * points * _log2(points), 2 if real else 1))


def _log2(points: Number) -> Number:
    """Base-2 logarithm, rounded up."""
    return (points - 1).bit_length() if isinstance(points, int) else sympy.ceiling(sympy.log(points, 2))


def _divide_rounding_up(operations: Number, divisor: int) -> Number:
    return -(-operations // divisor)


@counts("DFT")
def dft(op: ShapedNode) -> Cost | Uncounted:
    """Signal (batch, ..., 1 or 2), real or complex, along one axis; before opset 20 that is an attribute."""
    shape, out = op.shape(), op.out()
    axis = op.constant(2) if op.has(2) else (op.integer("axis", 1 if "axis" in op.node.attributes else -2),)
    if axis is None:
        return Uncounted(reason="the axis is only known when the model runs")
    points = out[axis[0]]
    if op.integer("onesided") or op.has(1):
        length = op.constant(1) if op.has(1) else (shape[axis[0]],)
        if length is None:
            return Uncounted(reason="the length is only known when the model runs")
        points = length[0]
    transforms = prod(size for index, size in enumerate(out[:-1]) if index != axis[0] % len(out))
    return _fft_cost(transforms, points, real=shape[-1] == 1)


@counts("STFT")
def stft(op: ShapedNode) -> Cost | Uncounted:
    """Frames (output axis 1) of a signal (batch, length, 1 or 2), each windowed and transformed."""
    batch, frames = op.out()[:2]
    frame = (op.constant(3) or (None,))[0] if op.has(3) else op.shape(2)[0]
    if frame is None:
        return Uncounted(reason="the length of a frame is only known when the model runs")
    signal = op.shape()
    is_real = len(signal) < 3 or signal[-1] == 1
    window = Cost(other=batch * frames * frame if op.has(2) else 0)
    return _fft_cost(batch * frames, frame, real=is_real) + window


@counts("Rfft", domain=MICROSOFT_DOMAIN)
def rfft(op: ShapedNode) -> Cost:
    """Real signals (..., *size) over the last `signal_ndim` axes."""
    return _over_last_axes(op.shape(), op.integer("signal_ndim", 1))


@counts("Irfft", domain=MICROSOFT_DOMAIN)
def irfft(op: ShapedNode) -> Cost:
    """Real results (..., *size) over the last `signal_ndim` axes."""
    return _over_last_axes(op.out(), op.integer("signal_ndim", 1))


def _over_last_axes(signal: tuple[Number, ...], axes: int) -> Cost:
    return _fft_cost(prod(signal[:-axes]), prod(signal[-axes:]), real=True)


@counts("MelWeightMatrix")
def mel_weight_matrix(op: ShapedNode) -> Cost:
    """A table of triangular filters: a difference, a quotient and two comparisons for each element."""
    return Cost(other=4 * op.elements)
