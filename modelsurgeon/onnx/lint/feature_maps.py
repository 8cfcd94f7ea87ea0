"""Feature maps along the depth of the net: how large they are, and how wide."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.lint.net import Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import WINDOWED, windows
from modelsurgeon.report.formatting import show

SQUEEZE_FACTOR = 8  # times; a residual bottleneck has 4, an inverted one 6
GROWTH_FACTOR = 4  # times as many positions: one upsampling by 2
NOTABLE_SHARE = 0.1
LATE_STRIDE = 1024  # input positions for one of the map: five strides of 2 along both sides
FEW_CONVOLUTIONS = 4
COLLAPSE_FACTOR = 16  # times fewer values in one step; a pooling of 2 x 2 leaves a fourth
GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")


@rule(
    "narrow",
    "warning",
    summary="channels are squeezed through a needle's eye",
    advice="Widen {layer} to at least a quarter of its neighbours' channels.",
    bottleneck=True,
)
def narrow(net: Net) -> Iterator[Hit]:
    """Channels fall to an eighth or less and rise again, over a whole feature map: information is lost.

    Where no non-linearity stands behind the narrow layer it is a factor of the next one, and meant; where
    others read what it reads, be it around it, nothing is lost.
    """
    for place in net.places:
        for earlier in place.before:
            if (
                earlier.area <= 1
                or place.channels < SQUEEZE_FACTOR * earlier.channels
                or _feeds(earlier, place)
            ):
                continue
            for start in earlier.before:
                wide = min(place.channels, start.channels)
                if (
                    0 < SQUEEZE_FACTOR * earlier.channels <= wide
                    and _read_by(net, start) * SQUEEZE_FACTOR <= wide
                ):
                    width = f"{start.channels} channels into {earlier.channels}"
                    yield Hit(
                        layer=earlier.row.name,
                        message=f"squeezes {width} on the way to {place.channels}",
                        badness=wide / earlier.channels,
                        evidence={
                            "before": start.channels, "channels": earlier.channels, "after": place.channels
                        },
                    )  # fmt: skip


@rule(
    "grown-map",
    "note",
    summary="a map grows before its costly convolution",
    advice="Convolve first and enlarge then, or fold the enlarging into a ConvTranspose or DepthToSpace.",
    bottleneck=True,
)
def grown_map(net: Net) -> Iterator[Hit]:
    """A convolution with a tenth of all MACs works on a map four times as large as any that comes before it.

    The same convolution before the enlargement costs a quarter, and sees the same information.
    """
    for place in net.places:
        if place.row.op != "Conv" or not place.before or place.mac_share < NOTABLE_SHARE:
            continue
        largest = max(place.before, key=lambda earlier: earlier.area)
        if 1 < largest.area <= place.area / GROWTH_FACTOR:
            growth = place.area / largest.area
            yield Hit(
                layer=place.row.name,
                message=f"works on a map {growth:.0f} times as large as that of {largest.row.name!r} "
                "before it",
                badness=place.mac_share,
                evidence={"growth": growth, "mac_share": place.mac_share},
            )


@rule(
    "early-collapse",
    "warning",
    summary="the map is small before the net is deep",
    advice="Take a stride out of the layers before {layer}, or a larger input: positions are lost early.",
)
def early_collapse(net: Net) -> Iterator[Hit]:
    """At least half of four or more convolutions work on maps of less than a 1024th of the input's positions.

    That is a stride of 32 along both sides, which usual backbones keep for their last quarter. Or: one step
    leaves less than a 16th of the values of a map on which kernels are still to work.
    """
    yield from _late(net)
    yield from _steps(net)


@rule(
    "nothing-to-pool",
    "warning",
    summary="a pooling over one position",
    advice="The map is too small already at the end: one stride less before {layer}, or a larger input.",
)
def nothing_to_pool(net: Net) -> Iterator[Hit]:
    """A global pooling whose map has one position only, or a pooling with a kernel and stride of 1.

    It does nothing; the strides before have left it no map, mostly as the input is smaller than was meant.
    """
    for node, row in net.nodes(*GLOBAL_POOLS):
        shape = row.input_shapes[0] if row.input_shapes else None
        if shape is None or len(shape) < 3 or prod(shape[2:]) != 1:
            continue
        if not any(net.is_open(node.inputs[0], axis) for axis in range(2, len(shape))):
            yield Hit(layer=row.name, message=f"pools a map of {show(shape, 'shape')}: there is one position")
    for node, row in net.nodes("MaxPool", "AveragePool"):
        axes = windows(net, node)
        if axes and all(axis.taps == axis.stride == 1 for axis in axes):
            yield Hit(layer=row.name, message="has kernel 1 and stride 1: its output is its input")


def _late(net: Net) -> Iterator[Hit]:
    """Convolutions on what is left of the map, where they are half of all."""
    maps = [place for place in net.places if place.row.op == "Conv" and _positions(place.row) > 1]
    if len(maps) < FEW_CONVOLUTIONS:
        return
    largest = max(_positions(place.row) for place in maps)
    late = [place for place in maps if LATE_STRIDE * place.area <= largest]
    if 2 * len(late) >= len(maps):
        yield Hit(
            layer=late[0].row.name,
            message=f"from here on {len(late)} of {len(maps)} convolutions work on a map of "
            f"{show((late[0].row.output or ())[2:], 'shape')} or less",
            badness=len(late) / len(maps),
            evidence={"late": len(late), "convolutions": len(maps)},
        )


def _steps(net: Net) -> Iterator[Hit]:
    """Single nodes that leave little of a map on which kernels are still to work."""
    kernels = [place for place in net.places if place.row.op == "Conv" and _has_kernel(place)]
    last = kernels[-1].node if kernels else None
    for node, row in net.nodes(*WINDOWED):
        if node is last:
            return
        data, out = row.input_shapes[0], row.output
        if data is None or out is None or prod(out[2:]) <= 1 or last is None:
            continue
        values, positions = prod(data) / (prod(out) or 1), prod(data[2:]) / (prod(out[2:]) or 1)
        if values >= COLLAPSE_FACTOR and positions >= COLLAPSE_FACTOR:
            yield Hit(
                layer=row.name,
                message=f"{show(data, 'shape')} into {show(out, 'shape')}: "
                f"one step leaves one value of {values:.0f}",
                badness=values,
                evidence={"values": values},
            )


def _positions(row: LayerRow) -> int:
    """Positions of the map that a node reads; 1 where it isn't known."""
    shape = row.input_shapes[0] if row.input_shapes else None
    return prod(shape[2:]) if shape is not None else 1


def _has_kernel(place: NetLayer) -> bool:
    weight = place.row.input_shapes[1] if len(place.row.input_shapes) > 1 else None
    return weight is not None and prod(weight[2:]) > 1


def _read_by(net: Net, place: NetLayer) -> int:
    """Channels of all layers that read what a layer gives."""
    return sum(reader.channels for reader in net.followers[place])


def _feeds(earlier: NetLayer, place: NetLayer) -> bool:
    """Whether a layer's output goes into another as it is: no non-linearity stands between."""
    outputs: set[ir.Value | None] = set(earlier.node.outputs)
    return not outputs.isdisjoint(place.node.inputs)
