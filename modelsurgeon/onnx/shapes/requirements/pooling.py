"""Pooling: windows over maps."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    equal,
    impossible,
    least_axes,
    requires,
)
from modelsurgeon.onnx.shapes.requirements.windows import listed_lengths, window_fits


@requires("MaxPool", "AveragePool", "LpPool")
@requires("QLinearAveragePool", domain=MICROSOFT_DOMAIN)
def pool(op: SizedNode) -> Iterator[Requirement]:
    """A window of kernel_shape over each map."""
    data, kernel = op.sizes(), op.integers("kernel_shape")
    if data is None or kernel is None or op.integer("channels_last"):
        return
    yield least_axes(data, 3, "its input")
    spatial = len(data) - 2
    if spatial < 1:
        return
    yield equal(len(kernel), spatial, f"kernel_shape has {len(kernel)} entries for {spatial} axes of a map")
    yield from listed_lengths(op, spatial)
    if len(kernel) != spatial:
        return
    yield from window_fits(op, data[2:], kernel)
    pads = op.integers("pads")
    if pads is not None and len(pads) == 2 * spatial and op.text("auto_pad", "NOTSET") == "NOTSET":
        for begin, end, taps in zip(pads[:spatial], pads[spatial:], kernel, strict=True):
            if max(begin, end) >= taps:
                yield impossible(f"its padding of {max(begin, end)} is as large as its window of {taps}")


@requires("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(op: SizedNode) -> Iterator[Requirement]:
    """A window over the whole map."""
    data = op.sizes()
    if data is not None:
        yield least_axes(data, 3, "its input")
