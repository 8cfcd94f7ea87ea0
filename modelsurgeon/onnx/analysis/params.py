"""Params of a model: their sizes and the nodes that they belong to. No weight is read.

Params are the elements of floating-point or quantized weights, wherever they are stored: initializer,
Constant, constant ConstantOfShape, subgraph or function; each tensor once, and only if a node uses it.
Integers for shapes or indices are no params, nor are 0-d scalars and the scales of quantized weights: a
quantized model has as many params as the original.

The params of a graph that was exported from a PyTorch module are those of the module.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.analysis.module_params import ModuleParams
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.io.sparse import STORED_BYTES_KEY
from modelsurgeon.onnx.shapes import sizes
from modelsurgeon.onnx.shapes.inline_functions import ORIGIN_KEY

Use = tuple[ir.Node, int]  # a node, and which of its inputs

QUANTIZED_TYPES = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"})
WEIGHT_TYPES = frozenset(
    dtype for dtype in ir.DataType if dtype.is_floating_point() or dtype.name in QUANTIZED_TYPES
)
# Quantized operators with a 32-bit integer bias, and the index of that input.
INTEGER_BIAS_INPUTS = {"DequantizeLinear": 0, "QLinearConv": 8, "QGemm": 6}
# Indices of inputs that are scales and zero points of quantized tensors, so no weights.
SCALE_INPUTS: dict[str, frozenset[int]] = {
    op: frozenset(inputs)
    for op, inputs in {
        "ConvInteger": {2, 3},
        "DequantizeLinear": {1, 2},
        "DynamicQuantizeLSTM": {8, 9, 10, 11},
        "DynamicQuantizeMatMul": {2, 3},
        "MatMulInteger": {2, 3},
        "MatMulIntegerToFloat": {2, 3, 4, 5},
        "GatherBlockQuantized": {2, 3},
        "MatMulBnb4": {2},
        "MatMulNBits": {2, 3, 4},
        "MatMulNBitsMlp": {4, 7},
        "MatMulNBitsQkv": {4, 7, 10},
        "NonMaxSuppression": {2, 3, 4},
        "QMoE": {3, 6, 9, 11, 12, 13, 15, 16, 17, 18, 19, 20},
        "QLinearAdd": {1, 2, 4, 5, 6, 7},
        "QLinearAveragePool": {1, 2, 3, 4},
        "QLinearGlobalAveragePool": {1, 2, 3, 4},
        "QLinearLeakyRelu": {1, 2, 3, 4},
        "QLinearMul": {1, 2, 4, 5, 6, 7},
        "QLinearReduceMean": {2, 3, 4, 5},
        "QLinearSigmoid": {1, 2, 3, 4},
        "QLinearSoftmax": {1, 2, 3, 4},
        "QAttention": {3, 4, 6, 7},
        "QGemm": {1, 2, 4, 5, 7, 8},
        "QLinearConv": {1, 2, 4, 5, 6, 7},
        "QLinearMatMul": {1, 2, 4, 5, 6, 7},
        "QuantizeLinear": {1, 2},
    }.items()
}
# Weights with several elements a byte, by operator and input: the attributes whose product is their number.
PACKED_WEIGHTS: dict[tuple[str, int], tuple[str, ...]] = {
    ("MatMulBnb4", 1): ("K", "N"),
    ("MatMulNBits", 1): ("K", "N"),
    ("MatMulNBitsMlp", 3): ("K", "N"),
    ("MatMulNBitsMlp", 6): ("K", "N"),
    ("MatMulNBitsQkv", 3): ("K", "Nq"),
    ("MatMulNBitsQkv", 6): ("K", "Nkv"),
    ("MatMulNBitsQkv", 9): ("K", "Nkv"),
}
# Operators with an attribute for the bits of each element, and the indices of the inputs packed that way.
WEIGHTS_WITH_BITS = {"GatherBlockQuantized": frozenset({0}), "QMoE": frozenset({2, 5, 8})}


@dataclass(frozen=True, kw_only=True)
class Param:
    """One weight tensor. statistic: whether it is a running mean or variance of a batch norm.

    node, index: the first node that uses it at run time, and as which of its inputs. elements: number of
    weights, packed ones unpacked. bytes: size as stored.
    """

    value: ir.Value
    node: ir.Node
    index: int
    elements: int
    bytes: int
    statistic: bool


def params(model: ir.Model, constants: set[ir.Value]) -> list[Param]:
    """All params of a bound model. constants: its constant values."""
    order = {node: number for number, node in enumerate(nodes(model))}
    found: dict[Hashable, Param] = {}
    module = ModuleParams.of(model)
    for value, key in _stored_values(model, constants):
        if module.made(value) or _is_weight(value):
            uses = sorted(_runtime_uses(value, constants), key=lambda use: order[use[0]])
            if (param := _param(value, uses, module)) is not None:
                found.setdefault(key, param)
    return list(found.values())


def nbytes(elements: Number, dtype: ir.DataType | None) -> Number | None:
    """Bytes of a tensor, with types below 8 bits packed; None for strings and unknown types."""
    if dtype is None or dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    if dtype.bitwidth >= 8:
        return elements * (dtype.bitwidth // 8)
    return -(-elements * dtype.bitwidth // 8)


def _param(value: ir.Value, uses: Sequence[Use], module: ModuleParams) -> Param | None:
    """The value as a param; None for a scalar that is no parameter of a module, and for an unknown size."""
    shape = sizes(value)
    if shape is None or (size := nbytes(count := prod(shape), value.dtype)) is None:
        return None
    if not shape and not module.made(value):
        return None
    statistic = any(node.op_type == "BatchNormalization" and index in (3, 4) for node, index in uses)
    own = _elements(value, count), _stored_bytes(value, size)
    if (counted := own if statistic else module.size(value, own)) is None:
        return None
    return Param(
        value=value,
        node=uses[0][0],
        index=uses[0][1],
        elements=counted[0],
        bytes=counted[1],
        statistic=statistic,
    )


def _stored_bytes(value: ir.Value, dense: int) -> int:
    """Bytes in the file; for a sparse weight those of its values and indices."""
    meta = getattr(value.const_value, "meta", {})
    return int(meta.get(STORED_BYTES_KEY, dense))


def _stored_values(model: ir.Model, constants: set[ir.Value]) -> Iterator[tuple[ir.Value, Hashable]]:
    """Values that hold a stored tensor, each with a key that is equal for values with the same tensor."""
    for graph in (model.graph, *bodies(model)):
        yield from ((value, id(value.const_value)) for value in graph.initializers.values())
    for node in nodes(model):
        if node.domain or not node.outputs:
            continue
        if node.op_type == "Constant" and node.attributes:
            yield node.outputs[0], id(next(iter(node.attributes.values())).value)
        elif node.op_type == "ConstantOfShape" and node.outputs[0] in constants:
            yield node.outputs[0], node.meta.get(ORIGIN_KEY, id(node))


def _is_weight(value: ir.Value) -> bool:
    """Whether a value is a weight: floating-point, or of 8 bits or fewer, and not used as scales alone."""
    dtype, uses = value.dtype, value.uses()
    if all(index in SCALE_INPUTS.get(node.op_type, ()) for node, index in uses):
        return False
    if dtype == ir.DataType.INT32:
        return any(INTEGER_BIAS_INPUTS.get(node.op_type) == index for node, index in uses)
    return dtype in WEIGHT_TYPES


def _runtime_uses(value: ir.Value, constants: set[ir.Value]) -> list[Use]:
    """Uses of a constant by nodes that run, directly or through nodes that are folded before."""
    found: list[Use] = []
    seen, pending = {value}, [value]
    while pending:
        for node, index in pending.pop().uses():
            if constants.issuperset(node.outputs):
                pending.extend(set(node.outputs) - seen)
                seen.update(node.outputs)
            else:
                found.append((node, index))
    return found or list(value.uses())


def _elements(value: ir.Value, stored: int) -> int:
    """Elements of a weight; where several are packed into a byte, as the operator's attributes define."""
    for node, index in value.uses():
        if (names := PACKED_WEIGHTS.get((node.op_type, index))) is not None:
            return prod(node.attributes.get_int(name, 0) for name in names) or stored
        if (
            node.op_type in WEIGHTS_WITH_BITS
            and index in WEIGHTS_WITH_BITS[node.op_type]
            and value.dtype == ir.DataType.UINT8
        ):
            bits = node.attributes.get_int("bits", node.attributes.get_int("expert_weight_bits", 4))
            return stored * (8 // bits)
    return stored
