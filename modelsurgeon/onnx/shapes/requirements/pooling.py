"""Pooling: windows over maps."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, NCHWC_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    equal,
    impossible,
    least_axes,
    requires,
)
from modelsurgeon.onnx.shapes.requirements.windows import listed_lengths, maps, window_fits


@requires("MaxPool", "AveragePool", "LpPool")
@requires("QLinearAveragePool", "NhwcMaxPool", domain=MICROSOFT_DOMAIN)
@requires("MaxPool", "AveragePool", domain=NCHWC_DOMAIN)
def pool(op: SizedNode) -> Iterator[Requirement]:
    """A window of kernel_shape over each map."""
    data, kernel = op.sizes(), op.integers("kernel_shape")
    if data is None or kernel is None:
        return
    yield least_axes(data, 3, "its input")
    found = maps(op)
    if found is None:
        return
    sizes, spatial = found[1], len(data) - 2
    yield equal(len(kernel), spatial, f"kernel_shape has {len(kernel)} entries for {spatial} axes of a map")
    yield from listed_lengths(op, spatial)
    if len(kernel) != spatial:
        return
    if min(kernel) < 1:
        yield impossible(f"kernel_shape {list(kernel)} has entries below 1")
        return
    if min(op.integers("pads") or (0,)) < 0:
        yield impossible("its padding is negative")
    strides = op.integers("strides") or (1,) * spatial
    if len(strides) == spatial:
        # onnxruntime rounds towards 0: it pools what is there, or makes an empty map.
        yield from window_fits(op, sizes, kernel, tuple(2 * stride - 1 for stride in strides))
    pads = op.integers("pads")
    if pads is not None and len(pads) == 2 * spatial and op.text("auto_pad", "NOTSET") == "NOTSET":
        for begin, end, taps in zip(pads[:spatial], pads[spatial:], kernel, strict=True):
            if max(begin, end) >= taps:
                yield impossible(f"its padding of {max(begin, end)} is as large as its window of {taps}")


@requires("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@requires("QLinearGlobalAveragePool", domain=MICROSOFT_DOMAIN)
def global_pool(op: SizedNode) -> Iterator[Requirement]:
    """A window over the whole map."""
    data = op.sizes()
    if data is not None:
        yield least_axes(data, 3, "its input")
