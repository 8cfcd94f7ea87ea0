"""Elementwise operators: one operation for each output element; and operators that only move data."""

from __future__ import annotations

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, NCHWC_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, counts, moves


@counts("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh")
@counts(
    "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log"
)
@counts("Mish", "Neg", "Not", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign")
@counts("Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu")
@counts("Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Div", "Equal")
@counts("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor")
@counts("Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial")
@counts("ParametricSoftplus", "Scale", "ScaledTanh")
@counts("Gelu", "FastGelu", "QuickGelu", "ScaledSiLU", "BiasAdd", "Inverse", domain=MICROSOFT_DOMAIN)
@counts(
    "BiasDropout", "BitmaskBiasDropout", "MulInteger", "IsAllFinite", "QOrderedGelu", domain=MICROSOFT_DOMAIN
)
@counts(
    "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearWhere", domain=MICROSOFT_DOMAIN
)
def one_per_element(op: ShapedNode) -> Cost:
    """One operation for each output element."""
    return Cost(other=op.elements)


@counts("Affine", "ImageScaler")
@counts("QuantizeLinear", "DequantizeLinear", "SwiGLU")
@counts("QuantizeLinear", "DequantizeLinear", "BiasGelu", "BiasSplitGelu", domain=MICROSOFT_DOMAIN)
def two_per_element(op: ShapedNode) -> Cost:
    """Two operations for each output element: a scale or bias, and one more."""
    return Cost(other=2 * op.elements)


@counts("GatedAdd", domain=MICROSOFT_DOMAIN)
@counts("GatherBlockQuantized", "QuantizeWithOrder", "DequantizeWithOrder", domain=MICROSOFT_DOMAIN)
def scale_and_zero_point(op: ShapedNode) -> Cost:
    """A scale and a zero point, or a gate and a sum, for each output element."""
    return Cost(other=2 * op.elements)


@counts("ComplexMul", "ComplexMulConj", domain=MICROSOFT_DOMAIN)
@counts("RotaryEmbedding")
@counts("RotaryEmbedding", "MRotaryEmbedding", domain=MICROSOFT_DOMAIN)
def rotary(op: ShapedNode) -> Cost:
    """Two products and a sum for each output element."""
    return Cost(other=3 * op.elements)


@counts("DynamicQuantizeLinear", "HannWindow", "HammingWindow", "BlackmanWindow")
def four_per_element(op: ShapedNode) -> Cost:
    """Four operations for each output element: minimum, maximum, scale, round; or the terms of a window."""
    return Cost(other=4 * op.elements)


@counts("Sum", "Max", "Min")
def one_per_operand(op: ShapedNode) -> Cost:
    """One operation for each output element and operand after the first."""
    return Cost(other=(len(op.node.inputs) - 1) * op.elements)


@counts("Mean")
def mean(op: ShapedNode) -> Cost:
    """A sum over the operands and a quotient, for each output element."""
    return Cost(other=len(op.node.inputs) * op.elements)


counts(
    *("BitCast", "Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "Constant", "ConstantOfShape"),
    *("DepthToSpace", "Dropout", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND"),
    *(
        "Identity",
        "MaxUnpool",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "ReverseSequence",
        "Shape",
        "Size",
        "Slice",
    ),
    *("SpaceToDepth", "Split", "Squeeze", "TensorScatter", "Tile", "Transpose", "Trilu", "Unsqueeze"),
    *("Crop", "DynamicSlice", "MemcpyFromHost", "MemcpyToHost"),
    *("Optional", "OptionalGetElement", "OptionalHasElement", "ConcatFromSequence", "SplitToSequence"),
    *(
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
    ),
)(moves)
counts(
    *("QLinearConcat", "RemovePadding", "RestorePadding", "ExpandDims", "GatherND", "Pad", "Range", "Trilu"),
    *("BitmaskDropout", "SampleOp", "TorchEmbedding", "UnfoldTensor"),
    domain=MICROSOFT_DOMAIN,
)(moves)
counts("ReorderInput", "ReorderOutput", domain=NCHWC_DOMAIN)(moves)
