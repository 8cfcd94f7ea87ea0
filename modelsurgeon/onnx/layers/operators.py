"""Read the layer of a Conv, ConvTranspose, Gemm, MatMul or recurrent node, and write a layer as such nodes.

| operator | weight in the file | bias |
|---|---|---|
| Conv | (out, in / groups, *kernel), as ours | third input |
| ConvTranspose | (in, out / groups, *kernel) | third input |
| Gemm | (in, out), or (out, in) with transB; times alpha | third input, times beta; MatMul where none |
| MatMul | (in, out) on the right, (out, in) on the left | none; an Add follows where one is written |
| LSTM, GRU, RNN | (directions, gates * hidden, in): see `recurrent` | fourth input |

Source: ONNX operator specification, opset 1 to 24.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer, Padding
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS, MICROSOFT_DOMAIN
from modelsurgeon.onnx.graph.constants import constant_array, why_unreadable
from modelsurgeon.onnx.layers import recurrent
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.surgery.site import Call

Size = tuple[int, ...]
ASSUMED_POSITIONS = 64  # size of each spatial axis of a map whose shape isn't known at all

QUANTIZED_LSTM = (MICROSOFT_DOMAIN, "DynamicQuantizeLSTM")


def holds_layer(node: ir.Node) -> bool:
    """Whether the node's operator is one whose layer is edited, or skipped with a reason."""
    plain = not node.domain and node.op_type in (*LINEAR_OPERATORS, *RECURRENT)
    return plain or (node.domain, node.op_type) == QUANTIZED_LSTM


def weight_input_index(node: ir.Node) -> int:
    """Index of the input that holds the weight, 0 or 1; the other one of the two is the data."""
    left = (
        node.op_type == "MatMul"
        and constant_array(node.inputs[1]) is None
        and constant_array(node.inputs[0]) is not None
    )
    return 0 if left else 1


def read(node: ir.Node, size: Size | None) -> Layer:
    """Read the layer that a node applies.

    size: shape of the data input where the model fixes it; only automatic padding needs it.
    Raises UnsupportedLayer: its message is the reason to skip the node.
    """
    weight = constant_array(node.inputs[weight_input_index(node)])
    if weight is None:
        raise UnsupportedLayer(why_unreadable(node.inputs[weight_input_index(node)], "weight"))
    if node.op_type == "MatMul":
        return _read_matmul(node, weight)
    if node.op_type == "Gemm":
        return _read_gemm(node, weight)
    if node.op_type in RECURRENT:
        return recurrent.read(node, weight)
    if node.op_type == QUANTIZED_LSTM[1]:
        raise UnsupportedLayer(f"its weight is quantized: {weight.dtype}")
    return _read_conv(node, weight, size)


def call(node: ir.Node, layer: Layer, shape: Size | None) -> Call:
    """Spatial input size of one use of a layer, and the number of its other positions (batch, tokens).

    shape: of the data input, its open sizes at their stated defaults; None where it isn't known.
    """
    n = len(layer.kernel)
    if shape is None:
        return (ASSUMED_POSITIONS,) * n, 1
    if node.op_type in ("Conv", "ConvTranspose"):
        return shape[-n:], shape[0]
    return (), prod(shape) // max(1, layer.in_channels)


def weight_as_stored(node: ir.Node, layer: Layer, *, last: bool = True) -> Array:
    """Weight of a layer of a chain, in the layout of the operator that is written in place of `node`.

    last: whether the layer is the last one of its chain.
    """
    if node.op_type in RECURRENT and last:
        return recurrent.weight_as_stored(node, layer)
    if layer.transposed:
        return swap_transposed_layout(layer.weight, layer.groups)
    return layer.weight if layer.kernel or weight_input_index(node) == 0 else layer.weight.T


def bias_as_stored(node: ir.Node, layer: Layer, *, last: bool = True) -> Array | None:
    """Bias of a layer of a chain, in the layout of its operator; None where it has none."""
    if layer.bias is not None and node.op_type in RECURRENT and last:
        return recurrent.bias_as_stored(node, layer.bias)
    return layer.bias


def write(
    node: ir.Node, layer: Layer, x: ir.Value, weight: ir.Value, bias: ir.Value | None, *, last: bool = True
) -> list[ir.Node]:
    """Nodes that apply a layer of a chain to `x` in place of `node`; the last node makes the result."""
    if node.op_type in RECURRENT and last:
        return [recurrent.write(node, x, weight, bias)]
    inputs = [x, weight] if bias is None else [x, weight, bias]
    if layer.kernel:
        return [ir.node("ConvTranspose" if layer.transposed else "Conv", inputs, attributes(layer))]
    if node.op_type == "Gemm" and bias is not None:  # without one it needs opset 11
        return [ir.node("Gemm", inputs, {k: v for k, v in node.attributes.items() if k == "broadcast"})]
    return _write_matmul(node, x, weight, bias)


def _read_conv(node: ir.Node, weight: Array, size: Size | None) -> Layer:
    groups = _int(node, "group", 1)
    transposed = node.op_type == "ConvTranspose"
    kernel = weight.shape[2:]
    stride = _ints(node, "strides") or (1,) * len(kernel)
    dilation = _ints(node, "dilations") or (1,) * len(kernel)
    output_padding = _ints(node, "output_padding") or (0,) * len(kernel)
    if transposed and "output_shape" in node.attributes:
        raise UnsupportedLayer("its padding follows from output_shape and the input's size")
    return Layer(
        weight=swap_transposed_layout(weight, groups) if transposed else weight,
        bias=_constant_bias(node),
        stride=stride,
        padding=padding_of(node, kernel, stride, dilation, output_padding, size),
        dilation=dilation,
        groups=groups,
        transposed=transposed,
        output_padding=output_padding if transposed else (),
    )


def swap_transposed_layout(weight: Array, groups: int) -> Array:
    """Swap a transposed convolution's two layouts: (a, b / groups, *kernel) to (b, a / groups, *kernel)."""
    a, b, *kernel = weight.shape
    blocks = weight.reshape(groups, a // groups, b, *kernel)
    return np.swapaxes(blocks, 1, 2).reshape(groups * b, a // groups, *kernel)


def padding_of(
    node: ir.Node, kernel: Size, stride: Size, dilation: Size, output_padding: Size, size: Size | None
) -> Padding:
    """Padding (begin, end) of each spatial axis of a convolution or pooling, from `pads` or `auto_pad`.

    size: shape of the data where it is fixed. Raises UnsupportedLayer where it is needed and isn't fixed.
    """
    mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    n = len(kernel)
    if mode == "NOTSET":
        pads = _ints(node, "pads") or (0,) * (2 * n)
        return tuple(zip(pads[:n], pads[n:], strict=True))
    if mode == "VALID":
        return ((0, 0),) * n
    if node.op_type == "ConvTranspose":
        totals = [
            d * (k - 1) + 1 + g - s
            for k, s, d, g in zip(kernel, stride, dilation, output_padding, strict=True)
        ]
        if min(totals) < 0:
            raise UnsupportedLayer(f"automatic padding {mode} would have to add to the output")
    else:
        totals = _same_padding(kernel, stride, dilation, size)
    halves = [(t // 2, t - t // 2) for t in totals]
    return tuple(h if mode == "SAME_UPPER" else h[::-1] for h in halves)


def _same_padding(kernel: Size, stride: Size, dilation: Size, size: Size | None) -> list[int]:
    """Sum of both paddings per spatial axis with which the output is ceil(input / stride) long."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if max(stride) == 1:
        return [span - 1 for span in spans]
    if size is None:
        raise UnsupportedLayer("automatic padding at a stride, on a map whose size the model leaves open")
    spatial = size[len(size) - len(kernel) :]
    return [
        max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(spatial, stride, spans, strict=True)
    ]


def _read_gemm(node: ir.Node, weight: Array) -> Layer:
    if _int(node, "transA", 0):
        raise UnsupportedLayer("its data is transposed (transA)")
    weight = weight if _int(node, "transB", 0) else weight.T
    return Layer(weight=_times_attribute(node, "alpha", weight), bias=_gemm_bias(node, len(weight)))


def _gemm_bias(node: ir.Node, out: int) -> Array | None:
    bias = _constant_bias(node)
    if bias is None:
        return None
    if bias.size not in (1, out) or bias.shape[-1:] not in ((), (1,), (out,)):
        raise UnsupportedLayer(f"its bias of shape {bias.shape} differs from row to row")
    return _times_attribute(node, "beta", np.broadcast_to(bias.reshape(-1), (out,)))


def _times_attribute(node: ir.Node, attribute: str, array: Array) -> Array:
    factor = node.attributes[attribute].as_float() if attribute in node.attributes else 1.0
    scaled: Array = array if factor == 1.0 else (array * factor).astype(array.dtype)
    return scaled


def _read_matmul(node: ir.Node, weight: Array) -> Layer:
    if weight.ndim != 2:
        raise UnsupportedLayer(f"its weight of shape {weight.shape} is no single matrix")
    return Layer(weight=weight if weight_input_index(node) == 0 else weight.T)


def _write_matmul(node: ir.Node, x: ir.Value, weight: ir.Value, bias: ir.Value | None) -> list[ir.Node]:
    left = weight_input_index(node) == 0
    product = ir.node("MatMul", [weight, x] if left else [x, weight])
    return [product] if bias is None else [product, ir.node("Add", [product.outputs[0], bias])]


def attributes(layer: Layer) -> dict[str, Any]:
    """Attributes of the Conv or ConvTranspose node that applies the layer."""
    begins, ends = zip(*layer.padding, strict=True)
    geometry: dict[str, Any] = {
        "kernel_shape": layer.kernel,
        "strides": layer.stride,
        "pads": begins + ends,
        "dilations": layer.dilation,
        "group": layer.groups,
    }
    return geometry | ({"output_padding": layer.output_padding} if layer.transposed else {})


def _constant_bias(node: ir.Node) -> Array | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = constant_array(node.inputs[2])
    if bias is None:
        raise UnsupportedLayer(why_unreadable(node.inputs[2], "bias"))
    return bias


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _ints(node: ir.Node, name: str) -> Size | None:
    return tuple(node.attributes[name].as_ints()) if name in node.attributes else None
