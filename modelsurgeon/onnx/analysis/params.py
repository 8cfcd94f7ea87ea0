"""Params of a model: their sizes and the nodes that they belong to. No weight is read.

Params are the elements of floating-point or quantized weights, wherever they are stored: initializer,
Constant, constant ConstantOfShape, subgraph or function; each tensor once, and only if a node uses it.
Integers for shapes or indices are no params, nor are 0-d scalars and the scales of quantized weights: a
quantized model has as many params as the original. Settings are none either: floats that steer an operator,
masks of scores, initial states of zeros, and a single factor that no module calls its own.

A file may keep its weights in Constant nodes, as paddle2onnx writes it. There nothing tells settings from
weights, and all of them count.

The params of a graph that was exported from a PyTorch module are those of the module.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.analysis.module_params import ModuleParams
from modelsurgeon.onnx.analysis.settings.contents import (
    MASK_OPERATORS,
    STATE_OPERATORS,
    is_initial_state,
    is_mask,
)
from modelsurgeon.onnx.analysis.settings.steering import (
    SCALING_OPERATORS,
    SIZE_ARITHMETIC,
    STEERING_INPUTS,
    Use,
    is_single_factor,
    steered,
)
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.io.sparse import STORED_BYTES_KEY
from modelsurgeon.onnx.shapes import sizes
from modelsurgeon.onnx.shapes.inline_functions import ORIGIN_KEY

QUANTIZED_TYPES = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"})
WEIGHT_TYPES = frozenset(
    dtype for dtype in ir.DataType if dtype.is_floating_point() or dtype.name in QUANTIZED_TYPES
)
# Why a tensor is a setting and no param.
SINGLE_FACTOR = "it is a single factor, bound or exponent"
INITIAL_STATE = "it is an initial state of zeros"
MASK = "it is a mask of scores"
NO_PARAMETER = "it is no parameter of the module"
# Operators that may read a setting: whatever another one reads is a param.
SETTING_OPERATORS = (
    MASK_OPERATORS | STATE_OPERATORS | SCALING_OPERATORS | SIZE_ARITHMETIC | STEERING_INPUTS.keys()
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
        "DequantizeWithOrder": {1},
        "DynamicQuantizeMatMul": {2, 3},
        "GemmFloat8": {3, 4, 5},
        "GroupQueryAttention": {12, 13},
        "MatMulInteger": {2, 3},
        "MatMulIntegerToFloat": {2, 3, 4, 5},
        "GatherBlockQuantized": {2, 3},
        "MatMulBnb4": {2},
        "MatMulNBits": {2, 3, 4},
        "MatMulNBitsMlp": {4, 7},
        "MatMulNBitsQkv": {4, 7, 10},
        "MatMulBlockQuantizedFp4Weight": {2, 3, 4},
        "MatMulBlockQuantizedFp8Weight": {2, 3},
        "MulInteger": {1, 3},
        "PagedAttention": {14, 15},
        "QEmbedLayerNormalization": set(range(8, 18)),
        "QLinearConcat": {0, 1, *(index for index in range(2, 1000) if (index - 2) % 3)},
        "QLinearWhere": {2, 3, 5, 6, 7, 8},
        "QOrderedAttention": {1, 2, 3, 4, 8, 9, 10, 14, 15, 16},
        "QOrderedGelu": {1, 2},
        "QOrderedLayerNormalization": {1, 4},
        "QOrderedLongformerAttention": {1, 3, 5, 6, 9, 11, 13},
        "QOrderedMatMul": {1, 3, 4, 7},
        "QuantizeWithOrder": {1},
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


@dataclass(frozen=True, kw_only=True)
class StoredFloats:
    """The params of a model, and the settings, each with the reason why it is none.

    untold: elements of settings that are counted as params, as the weights are in Constant nodes like they.
    """

    params: list[Param]
    settings: list[tuple[Param, str]]
    untold: int = 0


def params(model: ir.Model, constants: set[ir.Value]) -> list[Param]:
    """All params of a bound model. constants: its constant values."""
    return stored_floats(model, constants).params


def stored_floats(model: ir.Model, constants: set[ir.Value]) -> StoredFloats:
    """The params and the settings of a bound model, each tensor once. constants: its constant values."""
    order = {node: number for number, node in enumerate(nodes(model))}
    found: dict[Hashable, tuple[Param, str | None]] = {}
    module = ModuleParams.of(model)
    for value, key in _stored_values(model, constants):
        if key not in found and (module.made(value) or _is_weight(value)):
            uses = sorted(_runtime_uses(value, constants), key=lambda use: order[use[0]])
            if (param := _param(value, uses, module)) is not None:
                found[key] = param, _setting(param, uses, module)
    if not module.exported and _weights_are_in_constant_nodes(found.values()):
        return _all_in_constant_nodes(found.values())
    return StoredFloats(
        params=[param for param, reason in found.values() if reason is None],
        settings=[(param, reason) for param, reason in found.values() if reason and param.elements],
    )


def _setting(param: Param, uses: Sequence[Use], module: ModuleParams) -> str | None:
    """Why a tensor is a setting; None for a param."""
    if param.statistic or module.made(param.value):
        return None
    if module.is_other_constant(param.value):
        return NO_PARAMETER
    if not all(node.op_type in SETTING_OPERATORS for node, _ in uses):
        return None
    return _setting_by_use(param, uses)


def _setting_by_use(param: Param, uses: Sequence[Use]) -> str | None:
    if (reason := steered(uses, param.elements)) is not None:
        return reason
    if is_initial_state(param.value, uses):
        return INITIAL_STATE
    if param.elements == 1:
        return SINGLE_FACTOR if is_single_factor(param.value.name, uses) else None
    return MASK if is_mask(param.value, sizes(param.value) or (), uses) else None


def _weights_are_in_constant_nodes(found: Collection[tuple[Param, str | None]]) -> bool:
    weights = [param.value for param, reason in found if reason is None]
    return (
        bool(weights)
        and not any(value.is_initializer() for value in weights)
        and any(
            producer is not None and producer.op_type == "Constant"
            for producer in (value.producer() for value in weights)
        )
    )


def _all_in_constant_nodes(found: Collection[tuple[Param, str | None]]) -> StoredFloats:
    """Settings count as params, but for masks and states, which are told by what they hold."""
    settings = [(param, reason) for param, reason in found if reason in (MASK, INITIAL_STATE)]
    return StoredFloats(
        params=[param for param, reason in found if reason not in (MASK, INITIAL_STATE)],
        settings=[(param, str(reason)) for param, reason in settings],
        untold=sum(param.elements for param, reason in found if reason not in (None, MASK, INITIAL_STATE)),
    )


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
    elements, stored = module.size(value, (_elements(value, count), _stored_bytes(value, size)))
    return Param(
        value=value,
        node=uses[0][0],
        index=uses[0][1],
        elements=elements,
        bytes=stored,
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
