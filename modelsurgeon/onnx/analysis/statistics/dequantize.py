"""Dequantized values of quantized weights.

A weight's value is (stored integer - zero point) * scale, with one scale for the tensor, for each index of an
axis, or for each block along an axis. The graph has a DequantizeLinear for it, or the operator takes scale
and zero point as inputs of its own. Source: ONNX operator specification, opset 10 to 24, and the contrib
operators of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.constant_folding import EVALUATION_ERRORS, FOLDABLE_OPERATORS, constant_tensor
from modelsurgeon.onnx.graph.constants import WEIGHT_STEPS, Step, evaluate_step


@dataclass(frozen=True, kw_only=True)
class QuantizedInput:
    """Input indices of the scale and the zero point of a weight input; axis: the one that they vary along."""

    scale: int | None
    zero: int
    axis: int = -1


FOLDED_OPERATORS = FOLDABLE_OPERATORS | {
    "Expand",
    "Pad",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMean",
    "Tile",
}
QUANTIZED_OPERATORS = frozenset(("ConvInteger", "MatMulInteger"))  # their outputs are scaled by another node
QUANTIZED_INPUTS = {
    ("ConvInteger", 1): QuantizedInput(scale=None, zero=3, axis=0),
    ("DynamicQuantizeLSTM", 1): QuantizedInput(scale=8, zero=9),
    ("DynamicQuantizeLSTM", 2): QuantizedInput(scale=10, zero=11),
    ("DynamicQuantizeMatMul", 1): QuantizedInput(scale=2, zero=3),
    ("MatMulInteger", 1): QuantizedInput(scale=None, zero=3),
    ("MatMulIntegerToFloat", 1): QuantizedInput(scale=3, zero=5),
    ("QAttention", 1): QuantizedInput(scale=4, zero=7),
    ("QGemm", 3): QuantizedInput(scale=4, zero=5),
    ("QLinearConv", 3): QuantizedInput(scale=4, zero=5, axis=0),
    ("QLinearMatMul", 3): QuantizedInput(scale=4, zero=5),
}


def dequantized_constant(value: ir.Value | None) -> Array | None:
    """A constant as an array, dequantized; None where `value` isn't constant.

    Unlike `constants.constant_array`, initializers that a caller may override count as constant.
    """
    if value is None:
        return None
    tensor = constant_tensor(value)
    if tensor is not None:
        return None if tensor.dtype == ir.DataType.STRING else tensor.numpy()
    node = value.producer()
    if node is None or node.domain:
        return None
    return (
        evaluate_step(node, dequantized_constant, _DEQUANTIZING_STEPS)
        if node.op_type in _DEQUANTIZING_STEPS
        else _fold(node, value)
    )


def _fold(node: ir.Node, value: ir.Value) -> Array | None:
    """Output of a node with constant inputs, such as concatenated LSTM gates; None where not computable."""
    inputs = {
        str(operand.name): dequantized_constant(operand) for operand in node.inputs if operand is not None
    }
    if node.op_type not in FOLDED_OPERATORS or not inputs or any(array is None for array in inputs.values()):
        return None
    opsets = dict(node.graph.opset_imports) if node.graph is not None else {}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(ir.to_proto(node), opsets=opsets or None).run(None, inputs)
    except EVALUATION_ERRORS:
        return None
    return np.asarray(list(results)[list(node.outputs).index(value)])


def dequantized_input(node: ir.Node, index: int) -> Array | None:
    """A constant input of a node, dequantized as the operator does it; None where it isn't constant."""
    array = dequantized_constant(node.inputs[index])
    if array is None:
        return None
    if node.op_type == "MatMulNBits" and index == 1:
        return _dequantize_nbits(node, array)
    quantized = QUANTIZED_INPUTS.get((node.op_type, index))
    return (
        array
        if quantized is None
        else _dequantize_input(array, _input(node, quantized.scale), _input(node, quantized.zero), quantized)
    )


def _input(node: ir.Node, index: int | None) -> Array | None:
    return (
        dequantized_constant(node.inputs[index]) if index is not None and index < len(node.inputs) else None
    )


def _dequantize_input(
    array: Array, scale: Array | None, zero: Array | None, quantized: QuantizedInput
) -> Array:
    axis = quantized.axis if array.ndim < 3 or quantized.axis == 0 else None
    result = array.astype(np.float32)
    if zero is not None:
        result -= _broadcast(zero.astype(np.float32), result, axis)
    if scale is not None:
        result *= _broadcast(scale.astype(np.float32), result, axis)
    return result


def _broadcast(values: Array, array: Array, axis: int | None) -> Array:
    """Scales or zero points, one for each index of `axis`, shaped to broadcast over the array.

    axis: None for a stack of matrices, where the values are `(stack, columns)`.
    """
    if values.size == 1:
        return values.reshape(())
    if axis is None:
        return values.reshape(len(values), *(1,) * (array.ndim - values.ndim), *values.shape[1:])
    return values.reshape(-1, *(1,) * (array.ndim - 1)) if axis == 0 else values.reshape(-1)


def _dequantize(node: ir.Node, array: Array, scale: Array, zero: Array | None = None) -> Array:
    """DequantizeLinear: one scale, one for each index of `axis`, or one for each block along it."""
    axis = node.attributes.get_int("axis", 1)
    result = array.astype(np.float32)
    if zero is not None:
        result -= _broadcast_blocks(zero.astype(np.float32), result, axis)
    result *= _broadcast_blocks(scale.astype(np.float32), result, axis)
    return result


def _broadcast_blocks(values: Array, array: Array, axis: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1 and array.ndim > 1:
        return np.moveaxis(values.reshape(-1, *(1,) * (array.ndim - 1)), 0, axis)
    block = -(-array.shape[axis] // values.shape[axis])
    return np.repeat(values, block, axis=axis).take(range(array.shape[axis]), axis=axis)


def _dequantize_nbits(node: ir.Node, packed: Array) -> Array:
    """Weight `(in, out)` of MatMulNBits, stored as `(out, blocks, bytes)` of 2, 4 or 8 bits, lowest first."""
    inner, outer = (node.attributes.get_int(name, 0) for name in ("K", "N"))
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
    blocks = -(-inner // block)
    codes = _unpack_bits(packed.reshape(outer, -1), bits).reshape(outer, blocks, block).astype(np.float32)
    codes -= _zero_points(_input(node, 3), bits, outer, blocks)
    scale = _input(node, 2)
    if scale is not None:
        codes *= scale.astype(np.float32).reshape(outer, blocks, 1)
    return codes.reshape(outer, -1)[:, :inner].T


def _unpack_bits(packed: Array, bits: int) -> Array:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: Array = (packed[..., None] >> shifts) & (2**bits - 1)
    return codes.reshape(len(packed), -1)


def _zero_points(stored: Array | None, bits: int, outer: int, blocks: int) -> Array:
    if stored is None:
        return np.float32(2 ** (bits - 1)).reshape(1, 1, 1)
    if stored.dtype == np.uint8:
        stored = _unpack_bits(stored.reshape(outer, -1), bits)[:, :blocks]
    return stored.astype(np.float32).reshape(outer, blocks, 1)


_DEQUANTIZING_STEPS: Mapping[str, Step] = {**WEIGHT_STEPS, "DequantizeLinear": _dequantize}
