"""Fourier transforms: no MACs; an FFT of n points counts as 5 * n * log2(n) operations, the usual convention.

Source: M. Frigo and S. G. Johnson, "The Design and Implementation of FFTW3", Proceedings of the IEEE 93(2),
2005. Half of that for real signals. The logarithm is rounded up to a whole number.
"""

from __future__ import annotations

from math import prod

import sympy

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs.registry import MICROSOFT, ShapedNode, Uncounted, counts


def _transforms(number: Number, points: Number, *, real: bool) -> Cost:
    """So many transforms of so many points."""
    return Cost(other=number * _rounded(5 * points * _levels(points), 2 if real else 1))


def _levels(points: Number) -> Number:
    """log2, rounded up."""
    return (points - 1).bit_length() if isinstance(points, int) else sympy.ceiling(sympy.log(points, 2))


def _rounded(operations: Number, by: int) -> Number:
    return -(-operations // by)


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
    others = prod(size for place, size in enumerate(out[:-1]) if place != axis[0] % len(out))
    return _transforms(others, points, real=shape[-1] == 1)


@counts("STFT")
def stft(op: ShapedNode) -> Cost | Uncounted:
    """Frames (output axis 1) of a signal (batch, length, 1 or 2), each windowed and transformed."""
    batch, frames = op.out()[:2]
    frame = (op.constant(3) or (None,))[0] if op.has(3) else op.shape(2)[0]
    if frame is None:
        return Uncounted(reason="the length of a frame is only known when the model runs")
    signal = op.shape()
    real = len(signal) < 3 or signal[-1] == 1
    window = Cost(other=batch * frames * frame if op.has(2) else 0)
    return _transforms(batch * frames, frame, real=real) + window


@counts("Rfft", domain=MICROSOFT)
def rfft(op: ShapedNode) -> Cost:
    """Real signals (..., *size) over the last `signal_ndim` axes."""
    return _over_last(op.shape(), op.integer("signal_ndim", 1))


@counts("Irfft", domain=MICROSOFT)
def irfft(op: ShapedNode) -> Cost:
    """Real results (..., *size) over the last `signal_ndim` axes."""
    return _over_last(op.out(), op.integer("signal_ndim", 1))


def _over_last(signal: tuple[Number, ...], axes: int) -> Cost:
    return _transforms(prod(signal[:-axes]), prod(signal[-axes:]), real=True)


@counts("MelWeightMatrix")
def mel(op: ShapedNode) -> Cost:
    """A table of triangular filters: a difference, a quotient and two comparisons for each element."""
    return Cost(other=4 * op.elements)
