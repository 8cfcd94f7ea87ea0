"""What the backward pass of each operator needs of the forward pass, as torch.autograd keeps it.

| operators | kept |
|---|---|
| Conv, ConvTranspose, Gemm, MatMul, Einsum, Mul | each factor whose partner has a gradient |
| Div | the divisor; the dividend too where the divisor has a gradient |
| Relu, Sigmoid, Tanh, Exp, Sqrt, Reciprocal, Softmax, LogSoftmax, Selu | the output |
| Gelu, Elu, HardSwish, LeakyRelu, Clip, Erf, Log, Pow by a constant, ... | the input |
| BatchNormalization | the input; mean and inverse deviation per channel |
| LayerNormalization, GroupNormalization, InstanceNormalization | the input; two numbers per group |
| MaxPool, GlobalMaxPool | the input; an int64 index per output |
| AveragePool | the input |
| ReduceMax, ReduceMin | input and output |
| Max, Min | all inputs |
| Dropout | a mask, one byte per element |
| Where | the condition |
| Gather, GatherElements, GatherND, Scatter... | the indices |
| LSTM, GRU, RNN | input and output; gates and states of every step |
| Attention and its relatives | query, key, value, output; one float per row of scores, as flash attention |
| Add, Sub, Neg, Concat, Pad, Resize, Cast, ReduceSum, ReduceMean, GlobalAveragePool, ... | nothing |
| Reshape, Flatten, Squeeze, Transpose, Slice, Split, Identity, ... | nothing: they are views of their input |

Weights are there anyway and don't count, nor do constants. A tensor that two operators need is kept once; a
view keeps what it is a view of. Any other operator with a floating output keeps its floating inputs and its
output, and is named. Source: the formulas of derivatives.yaml in PyTorch 2.
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
    """Something that no value of the graph holds: what it is, its shape, and bytes of one element."""

    what: str
    shape: tuple[int, ...]
    width: int


Wish = ir.Value | ExtraTensor | None
HasGradient = Callable[[ir.Value | None], bool]
Rule = Callable[[ir.Node, HasGradient], Iterator[Wish]]

SAVED_RULES: dict[str, Rule] = {}
VIEW_OPERATORS = frozenset(
    {"Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
SAVES_NOTHING = frozenset(
    {
        *("Add", "Sub", "Neg", "Sum", "Mean", "Concat", "Pad", "Resize", "Upsample", "Cast", "CastLike"),
        *("ReduceSum", "ReduceMean", "GlobalAveragePool", "Tile", "DepthToSpace", "SpaceToDepth", "Trilu"),
        *("Floor", "Ceil", "Round", "Sign", "CumSum", "If", "Loop", "Scan", "Constant"),
        *("ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "BiasAdd"),
    }
)


def saves(*ops: str) -> Callable[[Rule], Rule]:
    """Register the rule of operators; a second one for the same raises ValueError."""

    def add(rule: Rule) -> Rule:
        for op in ops:
            if op in SAVED_RULES or op in SAVES_NOTHING or op in VIEW_OPERATORS:
                raise ValueError(f"{op} has a rule already")
            SAVED_RULES[op] = rule
        return rule

    return add


def saved_for_backward(node: ir.Node, has_gradient: HasGradient) -> list[ir.Value | ExtraTensor]:
    """What the backward pass of a node needs; has_gradient: whether a value gets one."""
    if is_free(node):
        return []
    wishes = SAVED_RULES.get(node.op_type, _everything)(node, has_gradient)
    return [wish for wish in wishes if wish is not None]


def is_free(node: ir.Node) -> bool:
    """Whether nothing has to be kept for a node, or only what it is a view of."""
    return node.op_type in SAVES_NOTHING or node.op_type in VIEW_OPERATORS


def is_known(node: ir.Node) -> bool:
    """Whether a rule says what is kept."""
    return is_free(node) or node.op_type in SAVED_RULES


def _everything(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    yield from (value for value in values if value.dtype is not None and value.dtype.is_floating_point())


@saves(*("Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Reciprocal", "Softmax", "LogSoftmax", "Selu"))
def _output(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.outputs[0]


@saves(
    *(
        "Abs",
        "AveragePool",
        "Celu",
        "Clip",
        "Cos",
        "Elu",
        "Erf",
        "FastGelu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
    ),
    *(
        "LeakyRelu",
        "Log",
        "LpNormalization",
        "LRN",
        "Mish",
        "PRelu",
        "QuickGelu",
        "Shrink",
        "Sin",
        "Softplus",
    ),
    *("Softsign", "Swish", "ThresholdedRelu"),
)
def _input(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]


@saves("Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedMatMul", "Gemm", "MatMul", "Mul")
def _factors(node: ir.Node, has_gradient: HasGradient) -> Iterator[Wish]:
    factors = list(node.inputs) if node.op_type == "Einsum" else list(node.inputs[:2])
    for place, factor in enumerate(factors):
        if any(has_gradient(other) for i, other in enumerate(factors) if i != place):
            yield factor


@saves("Div")
def _quotient(node: ir.Node, has_gradient: HasGradient) -> Iterator[Wish]:
    dividend, divisor = node.inputs[:2]
    yield divisor
    if has_gradient(divisor):
        yield dividend


@saves("Pow")
def _power(node: ir.Node, has_gradient: HasGradient) -> Iterator[Wish]:
    base, exponent = node.inputs[:2]
    yield base
    if has_gradient(exponent):
        yield from (exponent, node.outputs[0])


@saves("Max", "Min")
def _all_inputs(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    if len(node.inputs) > 1:
        yield from node.inputs


@saves("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
def _input_and_output(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield from (node.inputs[0], node.outputs[0])


@saves("MaxPool", "GlobalMaxPool")
def _pooled(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]
    yield _extra("indices", sizes(node.outputs[0]), INDEX_BYTES)


@saves("BatchNormalization")
def _normalised_batch(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]
    yield _extra("statistics", _prefixed(sizes(node.inputs[1])), FLOAT_BYTES)


@saves("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _normalised_rows(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]
    shape = sizes(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    yield _extra("statistics", _prefixed(shape and (prod(shape[:axis]),)), FLOAT_BYTES)


@saves("InstanceNormalization", "GroupNormalization")
def _normalised_groups(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]
    shape = sizes(node.inputs[0])
    if shape is not None and len(shape) > 1:
        groups = node.attributes.get_int("num_groups", shape[1])
        yield _extra("statistics", (2, shape[0], groups), FLOAT_BYTES)


@saves("Dropout")
def _masked(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield _extra("mask", sizes(node.inputs[0]), MASK_BYTES)


@saves("Where")
def _condition(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[0]


@saves("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
def _indices(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    yield node.inputs[1]


@saves("LSTM", "GRU", "RNN")
def _recurrent(node: ir.Node, _: HasGradient) -> Iterator[Wish]:
    """Each step keeps its gates and states: 5 vectors for LSTM (4 gates, a cell), 4 for GRU, 1 for RNN."""
    yield node.inputs[0]
    yield node.outputs[0]
    shape, hidden = sizes(node.inputs[0]), node.attributes.get_int("hidden_size", 0)
    both = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    vectors = {"LSTM": 5, "GRU": 4, "RNN": 1}[node.op_type]
    if shape is not None:
        yield _extra("gates and states", (*shape[:2], both, vectors * hidden), FLOAT_BYTES)


@saves("Attention", "MultiHeadAttention", "GroupQueryAttention")
def _attended(node: ir.Node, has_gradient: HasGradient) -> Iterator[Wish]:
    yield from (value for value in node.inputs[:3] if has_gradient(value))
    yield node.outputs[0]
    shape = sizes(node.outputs[0])
    if shape is not None and len(shape) > 2:
        names = ("q_num_heads", "num_heads")
        heads = next((node.attributes.get_int(name) for name in names if name in node.attributes), 1)
        rows = shape[:-1] if len(shape) == 4 else (shape[0], heads, shape[1])
        yield _extra("row sums", rows, FLOAT_BYTES)


def _extra(what: str, shape: tuple[int, ...] | None, width: int) -> ExtraTensor | None:
    return None if shape is None else ExtraTensor(what=what, shape=shape, width=width)


def _prefixed(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Two numbers, mean and inverse deviation, for each."""
    return None if shape is None else (2, *shape)
