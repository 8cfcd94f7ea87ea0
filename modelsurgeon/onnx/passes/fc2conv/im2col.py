"""Convolutions as products of a matrix with columns (im2col), written out as a graph.

A 1 x 1 convolution is one matrix at every position: with the channels moved to the last axis it is a MatMul.
Any other one multiplies its weight, as a matrix (out, in * taps), with columns of the patches under its
kernel, one per position. They are gathered from the flattened map by indices, taps x positions, that depend
only on its size, so that size must be fixed; groups are a further axis of both. Exact: the same products,
summed in another order. The columns take as many times the memory of the map as the kernel has taps: this is
for hardware that only has matrix products, and for analysis.

Source: Chellapilla, Puri, Simard: High performance convolutional neural networks (2006).
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims, opset, reshape_node
from modelsurgeon.surgery.edits import Edit

ACTION = "to matrix product"
PAD_BY_INPUT_OPSET = 11  # the opset from which on Pad takes its sizes as an input

BROADCASTING_OPSET = 7  # the opset from which on Add broadcasts


def to_matrix_product(context: PassContext, node: ir.Node, name: str, layer: Layer) -> Edit:
    """Replace a convolution by a matrix product. Raises UnsupportedLayer with the reason to skip it."""
    if layer.bias is not None and opset(context) < BROADCASTING_OPSET:
        raise UnsupportedLayer("its bias can't be added in this opset: 7 is needed")
    pointwise = prod(layer.kernel) == prod(layer.stride) == layer.groups == 1
    if pointwise and not any(map(any, layer.padding)):
        context.replace(node, _pointwise_nodes(context, node, name, layer))
    else:
        context.replace(node, _gathered_nodes(context, node, name, layer))
    return Edit(layer=name, action=ACTION, details={"kernel": list(layer.kernel), "groups": layer.groups})


def _pointwise_nodes(context: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    """Nodes for a 1 x 1 convolution: (N, C, ...) to (N, ..., C), times (C, K), and back."""
    ndim = len(layer.kernel) + 2
    last = ir.node("Transpose", node.inputs[:1], {"perm": [0, *range(2, ndim), 1]}, name=f"{name}.last")
    weight = layer.weight.reshape(layer.out_channels, -1).T
    nodes = [last, *_product_nodes(context, name, last.outputs[0], weight, layer.bias, left=False)]
    first = {"perm": [0, ndim - 1, *range(1, ndim - 1)]}
    return [*nodes, ir.node("Transpose", [nodes[-1].outputs[0]], first, name=f"{name}.first")]


def _gathered_nodes(context: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    """Nodes for any other: (groups, out / groups, rows) times (N, groups, rows, positions)."""
    sizes = (dims(context, node.inputs[0]) or [None] * layer.weight.ndim)[2:]
    size = tuple(n for n in sizes if n is not None)
    if len(size) < len(sizes):
        raise UnsupportedLayer("the size of its map is open: fix the inputs with --shape")
    groups = () if layer.groups == 1 else (layer.groups,)
    pad = _pad_nodes(context, node, name, layer)
    x = pad[-1].outputs[0] if pad else node.inputs[0]
    assert x is not None, "checked when the node was read"  # noqa: S101
    flat = reshape_node(context, x, [0, layer.in_channels, -1])
    indices = context.store(f"{name}.columns", tap_indices(layer, size))
    columns = ir.node("Gather", [flat.outputs[0], indices], {"axis": 2}, name=f"{name}.columns")
    rows = layer.in_channels // layer.groups * prod(layer.kernel)
    grouped = reshape_node(context, columns.outputs[0], [0, *groups, rows, -1])
    weight = layer.weight.reshape(*groups, -1, rows)
    bias = None if layer.bias is None else layer.bias.reshape(*groups, -1, 1)
    matmul = _product_nodes(context, name, grouped.outputs[0], weight, bias, left=True)
    back = reshape_node(context, matmul[-1].outputs[0], [0, layer.out_channels, *layer.out_size(size)])
    return [*pad, flat, columns, grouped, *matmul, back]


def _product_nodes(
    context: PassContext, name: str, x: ir.Value, weight: Array, bias: Array | None, *, left: bool
) -> list[ir.Node]:
    """A MatMul with a weight on the left or right, and an Add of the bias."""
    stored = context.store(f"{name}.weight", weight)
    matmul = ir.node("MatMul", [stored, x] if left else [x, stored], name=name)
    if bias is None:
        return [matmul]
    return [matmul, ir.node("Add", [matmul.outputs[0], context.store(f"{name}.bias", bias)])]


def _pad_nodes(context: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    begins, ends = zip(*layer.padding, strict=True)
    pads = [0, 0, *begins, 0, 0, *ends]
    if not any(pads):
        return []
    if opset(context) < PAD_BY_INPUT_OPSET:
        return [ir.node("Pad", node.inputs[:1], {"pads": pads}, name=f"{name}.pad")]
    stored = context.store(f"{name}.pads", np.array(pads, np.int64))
    return [ir.node("Pad", [node.inputs[0], stored], name=f"{name}.pad")]


def tap_indices(layer: Layer, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Index of every tap in the padded and flattened map at every output position, `(taps, positions)`."""
    padded = [n + begin + end for n, (begin, end) in zip(size, layer.padding, strict=True)]
    starts = np.meshgrid(*(np.arange(n) * s for n, s in zip(layer.out_size(size), layer.stride, strict=True)),
                         indexing="ij")  # fmt: skip
    taps = product(*(range(0, k * d, d) for k, d in zip(layer.kernel, layer.dilation, strict=True)))
    return np.stack(
        [
            np.ravel_multi_index([(s + t).ravel() for s, t in zip(starts, tap, strict=True)], padded)
            for tap in taps
        ]
    ).astype(np.int64)
