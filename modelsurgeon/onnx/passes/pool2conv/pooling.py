"""The geometry of pooling nodes, as a depthwise convolution with the same windows.

With ceil_mode a last window may reach over the padded edge; the convolution covers it by more padding.
Source: ONNX operator specification, AveragePool and MaxPool of opset 1 to 22.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer, Padding
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.op_predicates import dims


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """A pooling node as a depthwise layer whose weights are ones.

    layer: its padding includes that for windows over the edge. size: the spatial sizes of the input, where
    they are fixed. overhangs: whether a window reaches over the padded edge.
    """

    layer: Layer
    size: tuple[int, ...] | None
    overhangs: bool

    @property
    def taps(self) -> int:
        """Number of taps of one window."""
        return int(np.prod(self.layer.kernel))

    def real_taps(self) -> Array | None:
        """Number of taps on the map for every window, `(1, 1, *out_size)`; None where sizes are open."""
        if self.size is None:
            return None
        out = self.layer.out_size(self.size)
        axes = [self._axis_taps(axis, n, m) for axis, (n, m) in enumerate(zip(self.size, out, strict=True))]
        return reduce(np.multiply.outer, axes)[None, None]

    def _axis_taps(self, axis: int, n: int, out: int) -> Array:
        starts = np.arange(out) * self.layer.stride[axis] - self.layer.padding[axis][0]
        taps = starts[:, None] + np.arange(self.layer.kernel[axis]) * self.layer.dilation[axis]
        return np.asarray(((taps >= 0) & (taps < n)).sum(axis=1))


def read(context: PassContext, node: ir.Node) -> Pool:
    """The geometry of an AveragePool or MaxPool. Raises UnsupportedLayer with the reason to skip it."""
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise UnsupportedLayer("the indices of its maxima are used")
    kernel = tuple(node.attributes.get_ints("kernel_shape", ()))
    stride = tuple(node.attributes.get_ints("strides", ())) or (1,) * len(kernel)
    dilation = tuple(node.attributes.get_ints("dilations", ())) or (1,) * len(kernel)
    sizes = dims(context, node.inputs[0])
    dtype = context.inferred(node.outputs[0]).dtype
    if sizes is None or sizes[1] is None or dtype is None:
        raise UnsupportedLayer("the number of its channels isn't known")
    if dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        raise UnsupportedLayer(f"it works on {dtype.name}: a convolution needs floating point")
    fixed = [n for n in sizes[2:] if n is not None]
    size = tuple(fixed) if len(fixed) == len(kernel) else None
    whole = (1, 1, *size) if size is not None else None
    padding = operators.padding_of(node, kernel, stride, dilation, (0,) * len(kernel), whole)
    weight = np.ones((sizes[1], 1, *kernel), dtype.numpy())
    floor = Layer(weight=weight, stride=stride, padding=padding, dilation=dilation, groups=sizes[1])
    if not node.attributes.get_int("ceil_mode", 0):
        return Pool(layer=floor, size=size, overhangs=False)
    if size is None:
        raise UnsupportedLayer("how far its windows reach over the edge (ceil_mode) depends on an open size")
    return _with_overhang(floor, size)


def _with_overhang(floor: Layer, size: tuple[int, ...]) -> Pool:
    """The pooling with more padding at the end, for the windows that rounding up (ceil_mode) adds."""
    grown: list[tuple[int, int]] = []
    axes = zip(size, floor.kernel, floor.stride, floor.dilation, floor.padding, strict=True)
    for n, k, s, d, (begin, end) in axes:
        over = -(n + begin + end - d * (k - 1) - 1) % s
        starts = n + begin + end + over - d * (k - 1) - 1
        # A window that would start after the map is dropped.
        grown.append((begin, end + over if over and starts < n + begin else end))
    padding: Padding = tuple(grown)
    layer = Layer(
        weight=floor.weight,
        stride=floor.stride,
        padding=padding,
        dilation=floor.dilation,
        groups=floor.groups,
    )
    return Pool(layer=layer, size=size, overhangs=padding != floor.padding)
