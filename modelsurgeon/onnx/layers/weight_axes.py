"""Weight inputs as layers: which axes of an operator's weight are inputs, outputs, groups and kernel.

| operator | weight in the file | layer |
|---|---|---|
| Conv, ConvTranspose (variants) | (out, in / groups, *kernel), (in, out / groups, *kernel) | with geometry |
| Gemm, MatMul (variants) | (..., in, out) on the right, (..., out, in) on the left | one group a matrix |
| RNN, GRU, LSTM | (directions, gates * hidden, in) | one group a direction |
| Einsum | axes of the output that only the weight has, over axes that are summed | one group a shared axis |
| Gather | a table (rows, width) | from rows, as inputs, to width |

Source: ONNX operator specification, opset 1 to 24, and the contrib operators of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.layers.operators import swap_transposed_layout

Reader = Callable[[ir.Node, int, Array], Layer | None]

INPUT_ROLES = {
    "BatchNormalization": ("data", "scale", "bias", "mean", "variance"),
    "InstanceNormalization": ("data", "scale", "bias"),
    "GroupNormalization": ("data", "scale", "bias"),
    "LayerNormalization": ("data", "scale", "bias"),
    "SkipLayerNormalization": ("data", "skip", "scale", "bias"),
    "SimplifiedLayerNormalization": ("data", "scale"),
    "RMSNormalization": ("data", "scale"),
    "RNN": ("data", "W", "R", "B"),
    "GRU": ("data", "W", "R", "B"),
    "LSTM": ("data", "W", "R", "B", "lengths", "h", "c", "P"),
    "DynamicQuantizeLSTM": ("data", "W", "R", "B", "lengths", "h", "c", "P"),
    "PRelu": ("data", "slope"),
    "EmbedLayerNormalization": ("ids", "segments", "words", "positions", "kinds", "scale", "bias"),
    "QLinearConv": ("data", "", "", "weight", "", "", "", "", "bias"),
    "QGemm": ("data", "", "", "weight", "", "", "bias"),
}


def role(node: ir.Node, index: int, linear: Layer | None) -> str:
    """Role of an input of a node, such as weight, bias or scale. linear: the layer that the input makes."""
    known = INPUT_ROLES.get(node.op_type, ())
    if index < len(known):
        return known[index]
    if linear is not None:
        return "table" if node.op_type in TABLE_OPERATORS else "weight"
    return "bias" if index == 2 or node.op_type == "Add" else "constant"


def as_layer(node: ir.Node, index: int, array: Array) -> Layer | None:
    """The layer whose weight is a node's input `index`; None where it is no matrix or its use is unknown."""
    reader = LAYER_READERS.get((node.op_type, index))
    if reader is None or array.ndim < 2:
        return None
    return reader(node, index, array)


def _read_conv(node: ir.Node, _: int, array: Array) -> Layer | None:
    groups, n = node.attributes.get_int("group", 1), array.ndim - 2
    transposed = node.op_type == "ConvTranspose"
    if array.shape[0] % groups:
        return None
    return Layer(
        weight=swap_transposed_layout(array, groups) if transposed else array,
        stride=tuple(node.attributes.get_ints("strides", (1,) * n)),
        dilation=tuple(node.attributes.get_ints("dilations", (1,) * n)),
        groups=groups,
        transposed=transposed and n > 0,
    )


def _read_gemm(node: ir.Node, index: int, array: Array) -> Layer | None:
    if array.ndim != 2:
        return None
    transposed = node.attributes.get_int("transB" if index else "transA", 0)
    return Layer(weight=array if bool(transposed) == bool(index) else array.T)


def _read_right_matrix(node: ir.Node, index: int, array: Array) -> Layer | None:
    """Right side of a product: `(..., in, out)`, transposed where FusedMatMul's transB is set."""
    transposed = node.attributes.get_int("transB", 0)
    return _layer_of_stack(array if transposed else np.swapaxes(array, -1, -2)) if index else None


def _read_left_matrix(node: ir.Node, _: int, array: Array) -> Layer | None:
    transposed = node.attributes.get_int("transA", 0)
    return _layer_of_stack(np.swapaxes(array, -1, -2) if transposed else array)


def _layer_of_stack(array: Array) -> Layer:
    """One layer whose groups are the matrices of a stack `(..., out, in)`."""
    return Layer(weight=array.reshape(-1, array.shape[-1]), groups=max(1, prod(array.shape[:-2])))


def _read_recurrent(node: ir.Node, _: int, array: Array) -> Layer | None:
    if array.ndim != 3:
        return None
    return _layer_of_stack(np.swapaxes(array, 1, 2) if node.op_type == "DynamicQuantizeLSTM" else array)


def _read_table(node: ir.Node, _: int, array: Array) -> Layer | None:
    return Layer(weight=array.T) if array.ndim == 2 and not node.attributes.get_int("axis", 0) else None


def _read_einsum(node: ir.Node, index: int, array: Array) -> Layer | None:
    """Axes of an Einsum's weight: groups (in data and result), outputs (in the result), inputs (summed)."""
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if not arrow or "." in equation or len(parts) != 2 or index >= 2 or len(set(parts[index])) < array.ndim:
        return None
    own, other = parts[index], parts[1 - index]
    groups = [own.index(letter) for letter in own if letter in result and letter in other]
    outs = [own.index(letter) for letter in own if letter in result and letter not in other]
    ins = [axis for axis in range(array.ndim) if axis not in (*groups, *outs)]
    sizes = [prod(array.shape[axis] for axis in axes) for axes in (groups, outs, ins)]
    return _layer_of_stack(array.transpose(*groups, *outs, *ins).reshape(sizes)) if outs and ins else None


TABLE_OPERATORS = frozenset({"Gather", "EmbedLayerNormalization"})
LAYER_READERS: dict[tuple[str, int], Reader] = {
    **{(op, 1): _read_conv for op in ("Conv", "ConvInteger", "ConvTranspose", "FusedConv")},
    ("QLinearConv", 3): _read_conv,
    **{(op, index): _read_gemm for op in ("Gemm", "FusedGemm") for index in (0, 1)},
    ("QGemm", 3): _read_gemm,
    **{(op, 0): _read_left_matrix for op in ("MatMul", "FusedMatMul")},
    **{
        (op, 1): _read_right_matrix
        for op in (
            *("MatMul", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"),
            *("DynamicQuantizeMatMul", "Attention", "QAttention"),
        )
    },
    ("QLinearMatMul", 3): _read_right_matrix,
    **{
        (op, index): _read_recurrent
        for op in ("RNN", "GRU", "LSTM", "DynamicQuantizeLSTM")
        for index in (1, 2)
    },
    ("Gather", 0): _read_table,
    **{("EmbedLayerNormalization", index): _read_table for index in (2, 3, 4)},
    **{("Einsum", index): _read_einsum for index in (0, 1)},
}
