"""Shape rules of onnxruntime's operators: those like a standard one, matrix products, quantized operators."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.rules.parts import contents, known_inputs, optional_input, same_as_first
from modelsurgeon.onnx.shapes.rules.registration import (
    correct_rule,
    newest_rule,
    oldest_rule,
    register_instead,
    register_missing,
)
from modelsurgeon.onnx.shapes.rules.sizes import broadcast

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
    *("Inverse", "MulInteger", "SampleOp"),
)
# Operators that onnxruntime defines in the standard domain, or defines for older opsets than onnx does.
SHAPE_OF_INPUT_IN_STANDARD_DOMAIN = (
    *("Affine", "ImageScaler", "MeanVarianceNormalization", "MemcpyFromHost", "MemcpyToHost"),
    *("ParametricSoftplus", "Scale", "ScaledTanh", "ThresholdedRelu"),
)
# Contrib operators whose last axis has the size of an attribute: one attribute for each output.
WIDTH_ATTRIBUTES = {"MatMulBnb4": ("N",), "MatMulNBitsMlp": ("N",), "MatMulNBitsQkv": ("Nq", "Nkv", "Nkv")}
# Quantized operators whose operands are broadcast: the inputs that are operands.
BROADCAST_OPERANDS = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3), "QLinearWhere": (0, 1, 4)}


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
    for op in SHAPE_OF_INPUT_IN_STANDARD_DOMAIN:
        register_missing("", op, same_as_first)
    register_missing("", "LayerNormalization", oldest_rule("LayerNormalization"))
    for op in WIDTH_ATTRIBUTES:
        register_missing(MICROSOFT_DOMAIN, op, _last_axis_from_attribute)
    for op, rule in (
        ("MatMulIntegerToFloat", _integer_to_float),
        ("DynamicQuantizeLSTM", _gated_lstm),
        ("AttnLSTM", _gated_lstm),
        ("MatMulFpQ4", _packed_product),
    ):
        register_missing(MICROSOFT_DOMAIN, op, rule)
    # The library's rule takes no heed of transBatchA and transBatchB.
    for op in ("FusedMatMul", "FusedMatMulActivation"):
        register_instead(MICROSOFT_DOMAIN, op, _transposed_product)
    # The library's rules give sums of open sizes a new symbol, and take an open size for one that isn't 1.
    register_instead(MICROSOFT_DOMAIN, "QLinearConcat", _quantized_concat)
    for op in BROADCAST_OPERANDS:
        register_instead(MICROSOFT_DOMAIN, op, _quantized_broadcast)
    # The library's rules give results the wrong type.
    correct_rule("QGemm", _type_of_quantized_gemm, domain=MICROSOFT_DOMAIN)
    correct_rule("QEmbedLayerNormalization", _type_of_embedding, domain=MICROSOFT_DOMAIN)


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


def _transposed_product(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """MatMul of operands whose last two axes are swapped first, or whose first axis goes before the last."""
    operands = [
        _transposed(value, node, side) for value, side in zip(known_inputs(node, 2), "AB", strict=True)
    ]
    product = ir.node("MatMul", operands)
    newest_rule("MatMul")(ctx, product)
    if (shape := product.outputs[0].shape) is not None:
        ctx.set_shape(node.outputs[0], shape)
    if (dtype := operands[0].dtype) is not None:
        ctx.set_dtype(node.outputs[0], dtype)


def _transposed(value: ir.Value, node: ir.Node, side: str) -> ir.Value:
    """An operand as MatMul would take it."""
    shape = value.shape
    if shape is not None and shape.rank() > 1:
        dims = list(shape)
        if node.attributes.get_int(f"transBatch{side}", 0):
            dims = [*dims[1:-1], dims[0], dims[-1]]
        if node.attributes.get_int(f"trans{side}", 0):
            dims[-2:] = dims[:-3:-1]
        shape = ir.Shape(dims)
    return ir.Value(name=value.name, shape=shape, type=value.type)


def _quantized_broadcast(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Operands with a scale and a zero point each; the type is that of the last."""
    indices = BROADCAST_OPERANDS[node.op_type]
    values = known_inputs(node, indices[-1] + 1)
    operands = [values[index] for index in indices]
    shapes = [value.shape for value in operands if value.shape is not None]
    if len(shapes) == len(operands):
        ctx.set_shape(node.outputs[0], broadcast(shapes))
    if (dtype := operands[-1].dtype) is not None:
        ctx.set_dtype(node.outputs[0], dtype)


def _quantized_concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Scale and zero point of the result, then a tensor, its scale and its zero point, over and over."""
    parts = [value for value in node.inputs[2::3] if value is not None]
    shapes = [value.shape for value in parts if value.shape is not None]
    if parts and parts[0].dtype is not None:
        ctx.set_dtype(node.outputs[0], parts[0].dtype)
    if not shapes or len(shapes) < len(parts):
        return
    dims, axis = list(shapes[0]), node.attributes.get_int("axis", 0)
    for shape in shapes[1:]:
        dims[axis] = dims[axis] + shape[axis]
    ctx.set_shape(node.outputs[0], ir.Shape(dims))


def _packed_product(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., k) times a packed matrix whose shape (k, n) is an input."""
    data, _, size = known_inputs(node, 3)
    if data.shape is not None:
        columns = (contents(ctx, size) or [ctx.new_symbolic_dim()])[-1]
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*data.shape.dims[:-1], columns]), data.dtype)


def _type_of_quantized_gemm(_: ShapeInferenceContext, node: ir.Node) -> None:
    """The type of the zero point of the result; float without one."""
    zero = optional_input(node, 8)
    dtype = ir.DataType.FLOAT if zero is None else zero.dtype
    if dtype is not None:
        node.outputs[0].dtype = dtype


def _type_of_embedding(_: ShapeInferenceContext, node: ir.Node) -> None:
    """The type of the scale of the word embedding."""
    scale = optional_input(node, 8)
    if scale is not None and scale.dtype is not None:
        node.outputs[0].dtype = scale.dtype


def _gated_lstm(ctx: ShapeInferenceContext, node: ir.Node) -> None:
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
