"""Windows over maps: lengths of their attributes, and maps no smaller than the window."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    Sizes,
    at_least,
    equal,
    impossible,
)


def listed_lengths(op: SizedNode, spatial: int) -> Iterator[Requirement]:
    """strides, dilations and pads have an entry for each spatial axis, pads two."""
    for name, wanted in (("strides", spatial), ("dilations", spatial), ("pads", 2 * spatial)):
        length = op.length(name)
        if length is not None:
            yield equal(length, wanted, f"{name} has {length} entries for {spatial} axes of a map")
        if name != "pads" and min(op.integers(name) or (1,)) < 1:
            yield impossible(f"{name} {list(op.integers(name) or ())} has entries below 1")


def maps(op: SizedNode, index: int = 0) -> tuple[Size, Sizes] | None:
    """Number of channels and sizes of the maps in an input with at least 3 axes; None where unknown."""
    sizes = op.sizes(index)
    if sizes is None or len(sizes) < 3:
        return None
    if op.node.op_type.startswith("Nhwc") or op.integer("channels_last"):
        return sizes[-1], sizes[1:-1]
    return sizes[1], sizes[2:]


def window_fits(
    op: SizedNode, sizes: Sizes, kernel: Sizes, missing: tuple[int, ...] = ()
) -> Iterator[Requirement]:
    """A padded map is no smaller than the window, unless it is padded to fit.

    missing: how many positions may be missing along each axis.
    """
    if op.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return
    spatial = len(sizes)
    padded = op.text("auto_pad", "NOTSET") != "VALID"
    pads = (op.integers("pads") if padded else None) or (0,) * (2 * spatial)
    dilations = op.integers("dilations") or (1,) * spatial
    if len(pads) != 2 * spatial or len(dilations) != spatial or len(kernel) != spatial:
        return
    for axis, (size, taps, dilation) in enumerate(zip(sizes, kernel, dilations, strict=True)):
        window, available = (taps - 1) * dilation + 1, size + (pads[axis] + pads[spatial + axis])
        yield at_least(
            available,
            window - (missing[axis] if missing else 0),
            f"its input has {available} positions along a side, its window takes {window}",
        )
