"""Windows of a convolution or pooling: their positions, and the part of the map that they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.lint.net import Net

WINDOWED_POOLS = ("MaxPool", "AveragePool", "LpPool")
WINDOWED_OPERATORS = ("Conv", *WINDOWED_POOLS)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The windows along one axis: `count` windows, `stride` apart, the first one `begin` before the map.

    size: positions of the map. taps: of a window, `dilation` apart. begin, end: padding before and after the
    map. is_open: the model leaves the size open, so nothing is reported about its edges.
    """

    size: int
    taps: int
    dilation: int
    stride: int
    begin: int
    end: int
    count: int
    is_open: bool = False

    @property
    def extent(self) -> int:
        """Positions from a window's first tap to its last."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def dropped(self) -> int:
        """Positions at the end of the map that no window reaches."""
        reached = (self.count - 1) * self.stride - self.begin + self.extent
        return 0 if self.is_open else max(0, self.size - reached)

    @property
    def overhang(self) -> int:
        """Positions that the last window reaches beyond the map and its padding."""
        reached = (self.count - 1) * self.stride + self.extent
        return 0 if self.is_open else max(0, reached - self.begin - self.size - self.end)

    @cached_property
    def tap_counts(self) -> NDArray[np.intp]:
        """How many taps fall on each position of the map, `(size,)`."""
        if self.is_open:
            return np.full(self.size, self.taps, np.intp)
        tap_counts = np.zeros(self.size, np.intp)
        for tap in range(self.taps):
            at = tap * self.dilation - self.begin
            # From the position of the tap in the first window that has it inside the map.
            tap_counts[at + max(0, ceil(-at / self.stride)) * self.stride :: self.stride][
                : self._windows_inside(at)
            ] += 1
        return tap_counts

    @property
    def inside_share(self) -> float:
        """The share of all taps that fall on the map, not on padding."""
        whole = self.count * self.taps
        return 1.0 if self.is_open or not whole else int(self.tap_counts.sum()) / whole

    @property
    def empty(self) -> int:
        """Number of windows that see padding only."""
        if self.is_open:
            return 0
        starts = range(-self.begin, -self.begin + self.count * self.stride, self.stride)
        taps = range(0, self.taps * self.dilation, self.dilation)
        return sum(not any(0 <= start + tap < self.size for tap in taps) for start in starts)

    def _windows_inside(self, at: int) -> int:
        """Number of windows whose tap falls on the map; at: its position in the first window."""
        return max(0, min(self.count, ceil((self.size - at) / self.stride)) - max(0, ceil(-at / self.stride)))


def windows(net: Net, node: ir.Node) -> list[Axis]:
    """The windows of a convolution or pooling along each axis; empty where a size is unknown or zero."""
    row = net.row_of[node]
    shapes = (row.input_shapes[0] if row.input_shapes else None, row.output)
    taps = _taps(node, row)
    if shapes[0] is None or shapes[1] is None or not taps:
        return []
    sizes, counts = shapes[0][2:], shapes[1][2:]
    n = len(taps)
    if not len(sizes) == len(counts) == n or 0 in (*sizes, *counts):
        return []
    strides, dilations = _ints(node, "strides", n), _ints(node, "dilations", n)
    pads = _ints(node, "pads", 2 * n, 0)
    axes = []
    for axis, (size, count, k) in enumerate(zip(sizes, counts, taps, strict=True)):
        stride, dilation = strides[axis], dilations[axis]
        reach = (count - 1) * stride + dilation * (k - 1) + 1
        begin, end = _padding(node, reach - size, pads[axis], pads[axis + n])
        axes.append(
            Axis(
                size=size,
                taps=k,
                dilation=dilation,
                stride=stride,
                begin=begin,
                end=end,
                count=count,
                is_open=net.is_open(node.inputs[0], axis + 2),
            )
        )
    return axes


def _taps(node: ir.Node, row: LayerRow) -> tuple[int, ...]:
    if node.op_type in WINDOWED_POOLS:
        return tuple(node.attributes.get_ints("kernel_shape", ()))
    weight = row.input_shapes[1] if len(row.input_shapes) > 1 else None
    return () if weight is None else weight[2:]


def _padding(node: ir.Node, missing: int, begin: int, end: int) -> tuple[int, int]:
    """Padding before and after one axis. missing: positions that SAME padding adds in total."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return begin, end
    halves = (max(0, missing) // 2, max(0, missing) - max(0, missing) // 2)
    return {"SAME_UPPER": halves, "SAME_LOWER": halves[::-1]}.get(mode, (0, 0))


def _ints(node: ir.Node, name: str, count: int, neutral: int = 1) -> Sequence[int]:
    """An attribute with `count` numbers; `neutral` for all where it is left out or doesn't fit."""
    values = node.attributes.get_ints(name, ())
    return values if len(values) == count else (neutral,) * count
