"""Convolutions, with their quantized, fused and transposed forms."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, NCHWC_DOMAIN
from modelsurgeon.onnx.costs.matmul import dot_product_cost
from modelsurgeon.onnx.costs.registry import ShapedNode, counts


@counts("Conv")
def conv(op: ShapedNode) -> Cost:
    """Weight (out, in / groups, *kernel); padded taps count, as they are computed."""
    return dot_product_cost(op, prod(op.shape(1)[1:]), bias=2)


@counts("NhwcConv", domain=MICROSOFT_DOMAIN)
def nhwc_conv(op: ShapedNode) -> Cost:
    """Conv with the channels last; the weight is (out, *kernel, in / groups)."""
    return dot_product_cost(op, prod(op.shape(1)[1:]), bias=2)


@counts("FusedConv", "NhwcFusedConv", domain=MICROSOFT_DOMAIN)
def fused_conv(op: ShapedNode) -> Cost:
    """A convolution, an optional tensor that is added (input 3), and a non-linearity."""
    steps = op.has(3) + bool(op.text("activation"))
    return dot_product_cost(op, prod(op.shape(1)[1:]), bias=2, other=steps * op.elements)


@counts("Conv", domain=NCHWC_DOMAIN)
def blocked_conv(op: ShapedNode) -> Cost:
    """A Conv of channels in blocks, an optional tensor that is added (input 3), and a non-linearity.

    Channels that fill up a block aren't counted; a depthwise Conv or groups of whole blocks have none.
    """
    taps = prod(op.shape(1)[2:])
    channels = op.shape(1)[1] if op.integer("group", 1) > 1 else op.shape()[1]
    steps = op.has(3) + bool(op.text("activation"))
    return dot_product_cost(op, channels * taps, bias=2, other=steps * op.elements)


@counts("ConvInteger")
def conv_integer(op: ShapedNode) -> Cost:
    """Conv of integers; it has no bias."""
    return dot_product_cost(op, prod(op.shape(1)[1:]))


@counts("QLinearConv")
@counts("QLinearConv", domain=MICROSOFT_DOMAIN)
def qlinear_conv(op: ShapedNode) -> Cost:
    """Conv of quantized tensors; each result is scaled and rounded."""
    return dot_product_cost(op, prod(op.shape(3)[1:]), bias=8, other=2 * op.elements)


@counts("DeformConv")
def deform_conv(op: ShapedNode) -> Cost:
    """Conv whose taps are interpolated between four neighbours: 4 products and 3 sums for each tap."""
    taps = prod(op.shape(1)[1:])
    sampled = op.out()[0] * prod(op.out()[2:]) * op.shape()[1] * prod(op.shape(1)[2:])
    return dot_product_cost(op, taps, bias=3, other=7 * sampled)


@counts("ConvTranspose")
def conv_transpose(op: ShapedNode) -> Cost:
    """Weight (in, out / groups, *kernel): every input element is spread over prod(weight[1:]) places."""
    bias = op.elements if op.has(2) else 0
    return Cost(macs=op.elements_in * prod(op.shape(1)[1:]), bias_adds=bias)


@counts("ConvTransposeWithDynamicPads", domain=MICROSOFT_DOMAIN)
def conv_transpose_dynamic(op: ShapedNode) -> Cost:
    """ConvTranspose whose padding is an input."""
    return Cost(macs=op.elements_in * prod(op.shape(1)[1:]), bias_adds=op.elements if op.has(3) else 0)


@counts("CausalConvWithState")
@counts("CausalConvWithState", domain=MICROSOFT_DOMAIN)
def causal_conv(op: ShapedNode) -> Cost:
    """A convolution of each channel with the kernel (channels, 1, taps) over the past and the present."""
    return dot_product_cost(
        op, op.shape(1)[-1], bias=2, other=op.elements if op.text("activation", "none") != "none" else 0
    )


@counts("WordConvEmbedding", domain=MICROSOFT_DOMAIN)
def word_embedding(op: ShapedNode) -> Cost:
    """Filters (out, 1, letters of a window, size of a letter) over the letters of each word.

    Then a bias, a hyperbolic tangent and a maximum for each window.
    """
    words, letters = op.shape()[:2]
    filters, _, window, size = op.shape(1)
    windows = words * (letters - window + 1) * filters
    return Cost(macs=windows * window * size, bias_adds=windows, other=2 * windows)
