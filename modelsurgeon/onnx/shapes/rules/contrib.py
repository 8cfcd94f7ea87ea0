"""Shape rules of operators of onnxruntime that onnx_shape_inference lacks."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.rules.parts import integers, same_as_first
from modelsurgeon.onnx.shapes.rules.registration import newest_rule, register_missing

# Contrib operators whose shapes are those of a standard one.
SAME_RULE_AS = {
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "DynamicQuantizeMatMul": "MatMul",
    "QuantizeLinear": "QuantizeLinear",
    "DequantizeLinear": "DequantizeLinear",
    "FusedMatMulActivation": "FusedMatMul",
    "GatherND": "GatherND",
    "GridSample": "GridSample",
    "MatMulInteger16": "MatMulInteger",
    "Pad": "Pad",
    "Range": "Range",
    "SparseToDenseMatMul": "MatMul",
    "Trilu": "Trilu",
}
# Contrib operators whose output has the shape of their input.
SHAPE_OF_INPUT = (
    *("BiasDropout", "BiasSoftmax", "BitmaskBiasDropout", "BitmaskDropout", "ComplexMul", "ComplexMulConj"),
    *("Inverse", "MulInteger"),
)
# Contrib operators whose last axis has the size of an attribute: one attribute for each output.
WIDTH_ATTRIBUTES = {"MatMulBnb4": ("N",), "MatMulNBitsMlp": ("N",), "MatMulNBitsQkv": ("Nq", "Nkv", "Nkv")}


def register() -> None:
    """Add the rules to the registry."""
    for op, standard in SAME_RULE_AS.items():
        register_missing(
            MICROSOFT_DOMAIN,
            op,
            registry.get(MICROSOFT_DOMAIN, standard, version=1) or newest_rule(standard),
        )
    for op in SHAPE_OF_INPUT:
        register_missing(MICROSOFT_DOMAIN, op, same_as_first)
    for op in WIDTH_ATTRIBUTES:
        register_missing(MICROSOFT_DOMAIN, op, _last_axis_from_attribute)
    for op in ("NhwcConv", "NhwcFusedConv"):
        register_missing(MICROSOFT_DOMAIN, op, _channels_last)
    register_missing(MICROSOFT_DOMAIN, "MatMulIntegerToFloat", _integer_to_float)
    register_missing(MICROSOFT_DOMAIN, "DynamicQuantizeLSTM", _quantized_lstm)


def _integer_to_float(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """MatMul of two integer tensors with a scaled result, in the type of the scale (float without one)."""
    scale = node.inputs[2] if len(node.inputs) > 2 else None
    ctx.set_dtype(node.outputs[0], (scale and scale.dtype) or ir.DataType.FLOAT)
    newest_rule("MatMul")(ctx, node)


def _last_axis_from_attribute(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., k) -> (..., size given by an attribute), for each output that has one."""
    data = node.inputs[0]
    if data is None or data.shape is None:
        return
    for output, name in zip(node.outputs, WIDTH_ATTRIBUTES[node.op_type], strict=False):
        dims = [*data.shape.dims[:-1], node.attributes.get_int(name, 0)]
        ctx.set_shape_and_dtype(output, ir.Shape(dims), data.dtype or ir.DataType.FLOAT)


def _channels_last(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Input (batch, *spatial, channels), weight (out, in / groups, *kernel) as in Conv."""
    data, weight = node.inputs[:2]
    if data is None or data.shape is None or weight is None or weight.shape is None:
        return
    batch, *spatial, _ = data.shape
    axis_count = len(spatial)
    strides, dilations = (integers(node, name) or [1] * axis_count for name in ("strides", "dilations"))
    pads = integers(node, "pads") or [0] * 2 * axis_count
    kernel = integers(node, "kernel_shape") or list(weight.shape)[2:]
    same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    sizes = [
        -(-size // stride) if same else (size + begin + end - dilation * (taps - 1) - 1) // stride + 1
        for size, stride, dilation, taps, begin, end in zip(
            spatial, strides, dilations, kernel, pads[:axis_count], pads[axis_count:], strict=True
        )
    ]
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([batch, *sizes, weight.shape[0]]), data.dtype)


def _quantized_lstm(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """X (steps, batch, features) -> Y (steps, directions, batch, hidden), and the last two states."""
    data = node.inputs[0]
    hidden = node.attributes.get_int("hidden_size", 0)
    if data is None or data.shape is None or data.shape.rank() != 3 or not hidden:
        return
    steps, batch, _ = data.shape
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    last = ir.Shape([directions, batch, hidden])
    for output, shape in zip(
        node.outputs, (ir.Shape([steps, directions, batch, hidden]), last, last), strict=False
    ):
        ctx.set_shape_and_dtype(output, shape, data.dtype or ir.DataType.FLOAT)
