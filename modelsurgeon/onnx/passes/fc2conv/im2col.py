"""Convolutions on larger maps as products of a matrix with columns, written out as a graph.

A 1 x 1 convolution is one matrix at every position: with the channels turned to the end it is a MatMul. Any
other one multiplies its weight, as a matrix (out, in * taps), with the columns of what lies under its kernel
at every position. They are gathered from the flattened map by indices, taps x positions, that depend on its
size alone, so that size must be fixed; groups are a further axis of both. Exact: the same products, summed in
another order. It takes as much more memory as the kernel has taps: it serves hardware that knows nothing but
products, and analysis.
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
from modelsurgeon.onnx.passes.op_predicates import dims, opset, reshaped
from modelsurgeon.surgery.edits import Edit

ACTION = "to matrix product"
PAD_BY_INPUT_OPSET = 11  # the opset from which on Pad takes its sizes as an input

BROADCASTING_OPSET = 7  # the opset from which on Add spreads the smaller of two arrays


def on_columns(subject: PassContext, node: ir.Node, name: str, layer: Layer) -> Edit:
    """Put the product in the place of a convolution. Raises UnsupportedLayer with the reason to leave it."""
    if layer.bias is not None and opset(subject) < BROADCASTING_OPSET:
        raise UnsupportedLayer("its bias can't be added in this opset: 7 is needed")
    pointwise = prod(layer.kernel) == prod(layer.stride) == layer.groups == 1
    if pointwise and not any(map(any, layer.padding)):
        subject.replace(node, _at_every_position(subject, node, name, layer))
    else:
        subject.replace(node, _gathered(subject, node, name, layer))
    return Edit(layer=name, action=ACTION, details={"kernel": list(layer.kernel), "groups": layer.groups})


def _at_every_position(subject: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    """(N, C, ...) as (N, ..., C), times (C, K), and back."""
    ndim = len(layer.kernel) + 2
    last = ir.node("Transpose", node.inputs[:1], {"perm": [0, *range(2, ndim), 1]}, name=f"{name}.last")
    weight = layer.weight.reshape(layer.out_channels, -1).T
    made = [last, *_times(subject, name, last.outputs[0], weight, layer.bias, left=False)]
    first = {"perm": [0, ndim - 1, *range(1, ndim - 1)]}
    return [*made, ir.node("Transpose", [made[-1].outputs[0]], first, name=f"{name}.first")]


def _gathered(subject: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    """Columns (N, groups, in / groups * taps, positions), times which (groups, out / groups, ...) stands."""
    sizes = (dims(subject, node.inputs[0]) or [None] * layer.weight.ndim)[2:]
    size = tuple(n for n in sizes if n is not None)
    if len(size) < len(sizes):
        raise UnsupportedLayer("the size of its map is open: fix the inputs with --shape")
    groups = () if layer.groups == 1 else (layer.groups,)
    made = _padded(subject, node, name, layer)
    x = made[-1].outputs[0] if made else node.inputs[0]
    assert x is not None, "it has been read"  # noqa: S101
    flat = reshaped(subject, x, [0, layer.in_channels, -1])
    places = subject.store(f"{name}.columns", positions(layer, size))
    columns = ir.node("Gather", [flat.outputs[0], places], {"axis": 2}, name=f"{name}.columns")
    rows = layer.in_channels // layer.groups * prod(layer.kernel)
    tall = reshaped(subject, columns.outputs[0], [0, *groups, rows, -1])
    weight = layer.weight.reshape(*groups, -1, rows)
    bias = None if layer.bias is None else layer.bias.reshape(*groups, -1, 1)
    times = _times(subject, name, tall.outputs[0], weight, bias, left=True)
    back = reshaped(subject, times[-1].outputs[0], [0, layer.out_channels, *layer.out_size(size)])
    return [*made, flat, columns, tall, *times, back]


def _times(
    subject: PassContext, name: str, x: ir.Value, weight: Array, bias: Array | None, *, left: bool
) -> list[ir.Node]:
    """The product with a weight on one side, and the bias behind it."""
    stored = subject.store(f"{name}.weight", weight)
    times = ir.node("MatMul", [stored, x] if left else [x, stored], name=name)
    if bias is None:
        return [times]
    return [times, ir.node("Add", [times.outputs[0], subject.store(f"{name}.bias", bias)])]


def _padded(subject: PassContext, node: ir.Node, name: str, layer: Layer) -> list[ir.Node]:
    begins, ends = zip(*layer.padding, strict=True)
    pads = [0, 0, *begins, 0, 0, *ends]
    if not any(pads):
        return []
    if opset(subject) < PAD_BY_INPUT_OPSET:
        return [ir.node("Pad", node.inputs[:1], {"pads": pads}, name=f"{name}.pad")]
    stored = subject.store(f"{name}.pads", np.array(pads, np.int64))
    return [ir.node("Pad", [node.inputs[0], stored], name=f"{name}.pad")]


def positions(layer: Layer, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Where on the padded and flattened map each tap lies at every output position, `(taps, positions)`."""
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
