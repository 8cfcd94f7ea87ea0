"""Tensors of the forward pass that each operator saves for backward, as torch.autograd does.

| operators | saved |
|---|---|
| Conv, ConvTranspose, Gemm, MatMul, Einsum, Mul | each factor whose partner has a gradient |
| Div | the divisor; the dividend too where the divisor has a gradient |
| Relu, Sigmoid, Tanh, Exp, Sqrt, Reciprocal, Softmax, LogSoftmax, Tan | the output |
| Gelu, Elu, Selu, HardSwish, LeakyRelu, Clip, Erf, Log, Pow by a constant, ... | the input |
| Softsign | the input, and one float per element |
| BatchNormalization | the input; mean and inverse deviation per channel |
| LayerNormalization, GroupNormalization, InstanceNormalization | the input; two numbers per group |
| MaxPool, GlobalMaxPool | the input; an int64 index per output |
| AveragePool | the input |
| ReduceMax, ReduceMin, ReduceL1, ReduceL2, ReduceProd, ReduceLogSumExp | input and output |
| Max, Min, Mod | all inputs |
| Dropout | a mask, one byte per element |
| Where | the condition |
| Gather, GatherElements, GatherND, Scatter... | the indices |
| LSTM, GRU, RNN | input and output; gates and states of every step |
| Attention and its relatives | query, key, value, output; one float per row of scores, as flash attention |
| Add, Sub, Neg, Concat, Pad by a constant, Resize, Cast, ReduceSum, ReduceMean, ... | nothing |
| Reshape, Flatten, Squeeze, Transpose, Slice, Split, Identity, ... | nothing: they are views of their input |

Weights are in memory anyway and don't count, nor do constants. A tensor that two operators need is saved
once; a view saves its base tensor. Any other operator with a floating-point output is assumed to save its
floating-point inputs and its output, and is named in a note. Source: formulas of derivatives.yaml, PyTorch 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.onnx.shapes import sizes

INDEX_BYTES, MASK_BYTES, FLOAT_BYTES = 8, 1, 4


@dataclass(frozen=True, kw_only=True)
class ExtraTensor:
    """A saved tensor that is no value of the graph: what it is, its shape, and bytes of one element."""

    what: str
    shape: tuple[int, ...]
    element_bytes: int


SavedTensor = ir.Value | ExtraTensor | None
HasGradient = Callable[[ir.Value | None], bool]
Rule = Callable[[ir.Node, HasGradient], Iterator[SavedTensor]]

SAVED_RULES: dict[str, Rule] = {}
VIEW_OPERATORS = frozenset(
    {"Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
SAVES_NOTHING = frozenset(
    {
        *("Add", "Sub", "Neg", "Sum", "Mean", "Concat", "Resize", "Upsample", "Cast", "CastLike"),
        *("ReduceSum", "ReduceMean", "GlobalAveragePool", "Tile", "DepthToSpace", "SpaceToDepth", "Trilu"),
        *("Floor", "Ceil", "Round", "Sign", "CumSum", "If", "Loop", "Scan", "Constant"),
        *("ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "BiasAdd"),
    }
)


def saves(*ops: str) -> Callable[[Rule], Rule]:
    """Register the rule of some operators. Raises ValueError where one has a rule already."""

    def add(rule: Rule) -> Rule:
        for op in ops:
            if op in SAVED_RULES or op in SAVES_NOTHING or op in VIEW_OPERATORS:
                raise ValueError(f"{op} has a rule already")
            SAVED_RULES[op] = rule
        return rule

    return add


def saved_for_backward(node: ir.Node, has_gradient: HasGradient) -> list[ir.Value | ExtraTensor]:
    """Tensors that the backward pass of a node needs. has_gradient: whether a value gets a gradient."""
    if is_free(node):
        return []
    candidates = SAVED_RULES.get(node.op_type, _all_floating)(node, has_gradient)
    return [saved for saved in candidates if saved is not None]


def is_free(node: ir.Node) -> bool:
    """Whether a node saves nothing of its own: it needs no tensor for backward, or its outputs are views."""
    return node.op_type in SAVES_NOTHING or node.op_type in VIEW_OPERATORS


def is_known(node: ir.Node) -> bool:
    """Whether there is a rule for the node's operator."""
    return is_free(node) or node.op_type in SAVED_RULES


def _all_floating(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    yield from (value for value in values if value.dtype is not None and value.dtype.is_floating_point())


@saves(*("Relu", "Sigmoid", "Tanh", "Tan", "Exp", "Sqrt", "Reciprocal", "Softmax", "LogSoftmax"))
def _output(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.outputs[0]


@saves(
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Celu", "Clip", "Cos", "Cosh"),
    *("Elu", "Erf", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "LpNormalization"),
    *("LRN", "Mish", "QuickGelu", "ReduceSumSquare", "Selu", "Shrink", "Sin", "Sinh", "Softplus", "Swish"),
    *("ThresholdedRelu",),
)
def _input(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]


@saves("PRelu")
def _input_and_slope(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield from node.inputs[:2]


@saves("Softsign")
def _softsign(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    """The quotient x / (1 + |x|) needs its divisor too."""
    yield node.inputs[0]
    yield _extra("divisor", sizes(node.inputs[0]), FLOAT_BYTES)


@saves("Pad")
def _padding(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    """Padding by repeated values needs the input, padding by a constant nothing."""
    if node.attributes.get_string("mode", "constant") != "constant":
        yield node.inputs[0]


@saves("Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedMatMul", "Gemm", "MatMul", "Mul")
def _factors(node: ir.Node, has_gradient: HasGradient) -> Iterator[SavedTensor]:
    factors = list(node.inputs) if node.op_type == "Einsum" else list(node.inputs[:2])
    for index, factor in enumerate(factors):
        if any(has_gradient(other) for i, other in enumerate(factors) if i != index):
            yield factor


@saves("Div")
def _division(node: ir.Node, has_gradient: HasGradient) -> Iterator[SavedTensor]:
    dividend, divisor = node.inputs[:2]
    yield divisor
    if has_gradient(divisor):
        yield dividend


@saves("Pow")
def _power(node: ir.Node, has_gradient: HasGradient) -> Iterator[SavedTensor]:
    base, exponent = node.inputs[:2]
    yield base
    if has_gradient(exponent):
        yield from (exponent, node.outputs[0])


@saves("Max", "Min", "Mod")
def _all_inputs(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    if len(node.inputs) > 1:
        yield from node.inputs


@saves("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceProd")
def _input_and_output(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield from (node.inputs[0], node.outputs[0])


@saves("MaxPool", "GlobalMaxPool")
def _max_pooling(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]
    yield _extra("indices", sizes(node.outputs[0]), INDEX_BYTES)


@saves("BatchNormalization")
def _batchnorm(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]
    yield _extra("statistics", _mean_and_deviation(sizes(node.inputs[1])), FLOAT_BYTES)


@saves("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _layernorm(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]
    shape = sizes(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    yield _extra("statistics", _mean_and_deviation(shape and (prod(shape[:axis]),)), FLOAT_BYTES)


@saves("InstanceNormalization", "GroupNormalization")
def _groupnorm(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]
    shape = sizes(node.inputs[0])
    if shape is not None and len(shape) > 1:
        groups = node.attributes.get_int("num_groups", shape[1])
        yield _extra("statistics", (2, shape[0], groups), FLOAT_BYTES)


@saves("Dropout")
def _dropout(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield _extra("mask", sizes(node.inputs[0]), MASK_BYTES)


@saves("Where")
def _condition(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[0]


@saves("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
def _indices(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    yield node.inputs[1]


@saves("LSTM", "GRU", "RNN")
def _recurrent(node: ir.Node, _: HasGradient) -> Iterator[SavedTensor]:
    """Each step saves its gates and states: 5 vectors for LSTM (4 gates, a cell), 4 for GRU, 1 for RNN."""
    yield node.inputs[0]
    yield node.outputs[0]
    shape, hidden = sizes(node.inputs[0]), node.attributes.get_int("hidden_size", 0)
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    vectors = {"LSTM": 5, "GRU": 4, "RNN": 1}[node.op_type]
    if shape is not None:
        yield _extra("gates and states", (*shape[:2], directions, vectors * hidden), FLOAT_BYTES)


@saves("Attention", "MultiHeadAttention", "GroupQueryAttention")
def _attention(node: ir.Node, has_gradient: HasGradient) -> Iterator[SavedTensor]:
    yield from (value for value in node.inputs[:3] if has_gradient(value))
    yield node.outputs[0]
    shape = sizes(node.outputs[0])
    if shape is not None and len(shape) > 2:
        names = ("q_num_heads", "num_heads")
        heads = next((node.attributes.get_int(name) for name in names if name in node.attributes), 1)
        rows = shape[:-1] if len(shape) == 4 else (shape[0], heads, shape[1])
        yield _extra("row sums", rows, FLOAT_BYTES)


def _extra(what: str, shape: tuple[int, ...] | None, element_bytes: int) -> ExtraTensor | None:
    return None if shape is None else ExtraTensor(what=what, shape=shape, element_bytes=element_bytes)


def _mean_and_deviation(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Shape of a mean and an inverse standard deviation for each element of `shape`."""
    return None if shape is None else (2, *shape)
