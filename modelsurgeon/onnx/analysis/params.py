"""Which tensors are params, how large they are, and which node they belong to. No weight is read.

Params are the elements of floating or quantised weights wherever they sit: initializer, Constant, constant
ConstantOfShape, subgraph or function; each tensor once, and only if a node uses it. Integers that tell a
shape or an index are none, nor are 0-d scalars and the scales of quantised weights: a model has as many
params quantised as it had before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.io.sparse import STORED_BYTES_KEY
from modelsurgeon.onnx.shapes import sizes
from modelsurgeon.onnx.shapes.bound_model import ORIGIN_KEY

Use = tuple[ir.Node, int]  # a node, and which of its inputs

QUANTIZED_TYPES = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"})
WEIGHT_TYPES = frozenset(
    dtype for dtype in ir.DataType if dtype.is_floating_point() or dtype.name in QUANTIZED_TYPES
)
# Where a 32-bit bias of a quantised operator stands.
INTEGER_BIAS = {"DequantizeLinear": 0, "QLinearConv": 8, "QGemm": 6}
# Inputs that are scales and zero points: they tell how numbers are stored, and are no weights.
SCALES: dict[str, frozenset[int]] = {
    op: frozenset(places)
    for op, places in {
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
# Weights of several numbers a byte: the attributes whose product is how many there are.
PACKED: dict[tuple[str, int], tuple[str, ...]] = {
    ("MatMulBnb4", 1): ("K", "N"),
    ("MatMulNBits", 1): ("K", "N"),
    ("MatMulNBitsMlp", 3): ("K", "N"),
    ("MatMulNBitsMlp", 6): ("K", "N"),
    ("MatMulNBitsQkv", 3): ("K", "Nq"),
    ("MatMulNBitsQkv", 6): ("K", "Nkv"),
    ("MatMulNBitsQkv", 9): ("K", "Nkv"),
}
# Weights with an attribute for the bits of each number, by input.
BITS = {"GatherBlockQuantized": frozenset({0}), "QMoE": frozenset({2, 5, 8})}


@dataclass(frozen=True, kw_only=True)
class Param:
    """One weight tensor. statistic: of a batch norm.

    node, index: the first node that works with it at run time, and as which of its inputs.
    """

    value: ir.Value
    node: ir.Node
    index: int
    elements: int
    bytes: int
    statistic: bool


def params(model: ir.Model, fixed: set[ir.Value]) -> list[Param]:
    """All params of a bound model. fixed: its constant values."""
    order = {node: number for number, node in enumerate(nodes(model))}
    found: dict[Hashable, Param] = {}
    for value, key in _stored(model, fixed):
        if _is_weight(value):
            users = sorted(_users(value, fixed), key=lambda use: order[use[0]])
            if (param := _param(value, users)) is not None:
                found.setdefault(key, param)
    return list(found.values())


def nbytes(elements: Number, dtype: ir.DataType | None) -> Number | None:
    """Bytes of a tensor, types below a byte packed; None for text and unknown types."""
    if dtype is None or dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    if dtype.bitwidth >= 8:
        return elements * (dtype.bitwidth // 8)
    return -(-elements * dtype.bitwidth // 8)


def _param(value: ir.Value, users: Sequence[Use]) -> Param | None:
    """The value as a param; None for scalars and what has no known size."""
    shape = sizes(value)
    if not shape or (size := nbytes(count := prod(shape), value.dtype)) is None:
        return None
    return Param(
        value=value,
        node=users[0][0],
        index=users[0][1],
        elements=_elements(value, count),
        bytes=_stored_bytes(value, size),
        statistic=any(node.op_type == "BatchNormalization" and index in (3, 4) for node, index in users),
    )


def _stored_bytes(value: ir.Value, dense: int) -> int:
    """Bytes in the file: of a sparse weight its values and indices."""
    meta = getattr(value.const_value, "meta", {})
    return int(meta.get(STORED_BYTES_KEY, dense))


def _stored(model: ir.Model, fixed: set[ir.Value]) -> Iterator[tuple[ir.Value, Hashable]]:
    """Values that hold a tensor, each with what tells whether two of them hold the same one."""
    for graph in (model.graph, *bodies(model)):
        yield from ((value, id(value.const_value)) for value in graph.initializers.values())
    for node in nodes(model):
        if node.domain or not node.outputs:
            continue
        if node.op_type == "Constant" and node.attributes:
            yield node.outputs[0], id(next(iter(node.attributes.values())).value)
        elif node.op_type == "ConstantOfShape" and node.outputs[0] in fixed:
            yield node.outputs[0], node.meta.get(ORIGIN_KEY, id(node))


def _is_weight(value: ir.Value) -> bool:
    """Floating and 8-bit or smaller numbers are, unless all that use them take them for scales."""
    dtype, uses = value.dtype, value.uses()
    if all(index in SCALES.get(node.op_type, ()) for node, index in uses):
        return False
    if dtype == ir.DataType.INT32:
        return any(INTEGER_BIAS.get(node.op_type) == index for node, index in uses)
    return dtype in WEIGHT_TYPES


def _users(value: ir.Value, fixed: set[ir.Value]) -> list[Use]:
    """Who works with a constant at run time, be it behind nodes that are folded before."""
    found: list[Use] = []
    seen, waiting = {value}, [value]
    while waiting:
        for node, index in waiting.pop().uses():
            if fixed.issuperset(node.outputs):
                waiting.extend(set(node.outputs) - seen)
                seen.update(node.outputs)
            else:
                found.append((node, index))
    return found or list(value.uses())


def _elements(value: ir.Value, stored: int) -> int:
    """Elements of a weight; where several are packed into a byte, the operator tells how many."""
    for node, index in value.uses():
        if (names := PACKED.get((node.op_type, index))) is not None:
            return prod(node.attributes.get_int(name, 0) for name in names) or stored
        if node.op_type in BITS and index in BITS[node.op_type] and value.dtype == ir.DataType.UINT8:
            bits = node.attributes.get_int("bits", node.attributes.get_int("expert_weight_bits", 4))
            return stored * (8 // bits)
    return stored
