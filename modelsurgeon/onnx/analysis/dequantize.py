"""The numbers that quantised weights stand for.

A quantised weight is (number - zero point) * scale, with one scale for the tensor, one for each index of an
axis, or one for each block along it; DequantizeLinear says so in the graph, other operators take scale and
zero point as inputs of their own. Source: ONNX operator specification, opset 10 to 24, and the contrib
operators of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.constant_folding import ARITHMETIC, EVALUATION_ERRORS, tensor_of
from modelsurgeon.onnx.graph.constants import WEIGHT_STEPS, Step, evaluate_step


@dataclass(frozen=True, kw_only=True)
class QuantizedInput:
    """Where an operator has the scale and the zero point of a weight input; axis: along which they vary."""

    scale: int | None
    zero: int
    axis: int = -1


FOLDED_OPERATORS = ARITHMETIC | {"Expand", "Pad", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMean", "Tile"}
QUANTIZED_OPERATORS = frozenset(("ConvInteger", "MatMulInteger"))  # whose results are scaled by another node
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


def numbers(value: ir.Value | None) -> Array | None:
    """The numbers of a constant as they are used, dequantised; None where `value` isn't constant.

    Unlike `weights.constant` it takes an initializer for a constant even where a caller may override it.
    """
    if value is None:
        return None
    tensor = tensor_of(value)
    if tensor is not None:
        return None if tensor.dtype == ir.DataType.STRING else tensor.numpy()
    node = value.producer()
    if node is None or node.domain:
        return None
    return evaluate_step(node, numbers, _DECODING) if node.op_type in _DECODING else _folded(node, value)


def _folded(node: ir.Node, value: ir.Value) -> Array | None:
    """What a runtime folds when it loads the model, such as gates of an LSTM that are put together."""
    given = {str(each.name): numbers(each) for each in node.inputs if each is not None}
    if node.op_type not in FOLDED_OPERATORS or not given or any(array is None for array in given.values()):
        return None
    opsets = dict(node.graph.opset_imports) if node.graph is not None else {}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(ir.to_proto(node), opsets=opsets or None).run(None, given)
    except EVALUATION_ERRORS:
        return None
    return np.asarray(list(results)[list(node.outputs).index(value)])


def weight(node: ir.Node, index: int) -> Array | None:
    """The numbers of one input of a node, as it works with them."""
    array = numbers(node.inputs[index])
    if array is None:
        return None
    if node.op_type == "MatMulNBits" and index == 1:
        return _unpacked(node, array)
    coded = QUANTIZED_INPUTS.get((node.op_type, index))
    return (
        array
        if coded is None
        else _decoded(array, _input(node, coded.scale), _input(node, coded.zero), coded)
    )


def _input(node: ir.Node, index: int | None) -> Array | None:
    return numbers(node.inputs[index]) if index is not None and index < len(node.inputs) else None


def _decoded(array: Array, scale: Array | None, zero: Array | None, coded: QuantizedInput) -> Array:
    axis = coded.axis if array.ndim < 3 or coded.axis == 0 else None
    plain = array.astype(np.float32)
    if zero is not None:
        plain -= _along(zero.astype(np.float32), plain, axis)
    if scale is not None:
        plain *= _along(scale.astype(np.float32), plain, axis)
    return plain


def _along(values: Array, array: Array, axis: int | None) -> Array:
    """One value for each index of an axis, shaped to fit; of a stack of matrices, `(stack, columns)`."""
    if values.size == 1:
        return values.reshape(())
    if axis is None:
        return values.reshape(len(values), *(1,) * (array.ndim - values.ndim), *values.shape[1:])
    return values.reshape(-1, *(1,) * (array.ndim - 1)) if axis == 0 else values.reshape(-1)


def _dequantize(node: ir.Node, array: Array, scale: Array, zero: Array | None = None) -> Array:
    """DequantizeLinear: a scale for all, for each index of `axis`, or for each block along it."""
    axis = node.attributes.get_int("axis", 1)
    plain = array.astype(np.float32)
    if zero is not None:
        plain -= _spread_out(zero.astype(np.float32), plain, axis)
    plain *= _spread_out(scale.astype(np.float32), plain, axis)
    return plain


def _spread_out(values: Array, array: Array, axis: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1 and array.ndim > 1:
        return np.moveaxis(values.reshape(-1, *(1,) * (array.ndim - 1)), 0, axis)
    block = -(-array.shape[axis] // values.shape[axis])
    return np.repeat(values, block, axis=axis).take(range(array.shape[axis]), axis=axis)


def _unpacked(node: ir.Node, packed: Array) -> Array:
    """MatMulNBits: `(out, blocks, bytes)` of 2, 4 or 8 bits, the lowest first, as `(in, out)`."""
    inner, outer = (node.attributes.get_int(name, 0) for name in ("K", "N"))
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
    blocks = -(-inner // block)
    codes = _codes(packed.reshape(outer, -1), bits).reshape(outer, blocks, block).astype(np.float32)
    codes -= _zeros(_input(node, 3), bits, outer, blocks)
    scale = _input(node, 2)
    if scale is not None:
        codes *= scale.astype(np.float32).reshape(outer, blocks, 1)
    return codes.reshape(outer, -1)[:, :inner].T


def _codes(packed: Array, bits: int) -> Array:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: Array = (packed[..., None] >> shifts) & (2**bits - 1)
    return codes.reshape(len(packed), -1)


def _zeros(given: Array | None, bits: int, outer: int, blocks: int) -> Array:
    if given is None:
        return np.float32(2 ** (bits - 1)).reshape(1, 1, 1)
    if given.dtype == np.uint8:
        given = _codes(given.reshape(outer, -1), bits)[:, :blocks]
    return given.astype(np.float32).reshape(outer, blocks, 1)


_DECODING: Mapping[str, Step] = {**WEIGHT_STEPS, "DequantizeLinear": _dequantize}
