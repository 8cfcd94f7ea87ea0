"""Rules about the sizes and channels of feature maps along the depth of a net."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.lint.net import Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import WINDOWED_OPERATORS, windows
from modelsurgeon.report.formatting import show

MIN_SQUEEZE_FACTOR = 8  # times fewer channels; a residual bottleneck has 4, an inverted one 6
MIN_GROWTH_FACTOR = 4  # times as many positions: one upsampling by 2
MIN_MAC_SHARE = 0.1  # of all MACs; below, a convolution isn't costly
MIN_LATE_REDUCTION = 1024  # input positions per position of the map: five strides of 2 along both sides
MIN_CONVOLUTIONS = 4  # below, a net is too small to have a late half
MIN_COLLAPSE_FACTOR = 16  # times fewer values in one node; a pooling of 2 x 2 leaves a fourth
GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")


@rule(
    "narrow",
    "warning",
    summary="a layer has far fewer channels than the layers around it",
    advice="Widen {layer} to at least a quarter of its neighbours' channels.",
    bottleneck=True,
)
def narrow(net: Net) -> Iterator[Hit]:
    """Channels fall to an eighth or less and rise again, over a whole feature map: information is lost.

    A narrow layer without a non-linearity after it is a low-rank factor of the next one, and intended; where
    other layers read the same input, as around a residual block, nothing is lost.
    """
    for layer in net.layers:
        for predecessor in layer.predecessors:
            if (
                predecessor.area <= 1
                or layer.channels < MIN_SQUEEZE_FACTOR * predecessor.channels
                or _feeds_directly(predecessor, layer)
            ):
                continue
            for source in predecessor.predecessors:
                wide = min(layer.channels, source.channels)
                if (
                    0 < MIN_SQUEEZE_FACTOR * predecessor.channels <= wide
                    and _reading_channels(net, source) * MIN_SQUEEZE_FACTOR <= wide
                ):
                    width = f"{source.channels} channels into {predecessor.channels}"
                    yield Hit(
                        layer=predecessor.row.name,
                        message=f"squeezes {width} on the way to {layer.channels}",
                        badness=wide / predecessor.channels,
                        evidence={
                            "before": source.channels,
                            "channels": predecessor.channels,
                            "after": layer.channels,
                        },
                    )  # fmt: skip


@rule(
    "grown-map",
    "note",
    summary="a map is enlarged before a costly convolution",
    advice="Convolve first and enlarge then, or fold the enlargement into a ConvTranspose or DepthToSpace.",
    bottleneck=True,
)
def grown_map(net: Net) -> Iterator[Hit]:
    """A convolution with a tenth of all MACs works on a map four times as large as any before it.

    The same convolution before the enlargement costs a quarter, and has the same information.
    """
    for layer in net.layers:
        if layer.row.op != "Conv" or not layer.predecessors or layer.mac_share < MIN_MAC_SHARE:
            continue
        largest = max(layer.predecessors, key=lambda predecessor: predecessor.area)
        if 1 < largest.area <= layer.area / MIN_GROWTH_FACTOR:
            growth = layer.area / largest.area
            yield Hit(
                layer=layer.row.name,
                message=f"works on a map {growth:.0f} times as large as that of {largest.row.name!r} "
                "before it",
                badness=layer.mac_share,
                evidence={"growth": growth, "mac_share": layer.mac_share},
            )


@rule(
    "early-collapse",
    "warning",
    summary="the map becomes small early in the net",
    advice="Remove a stride before {layer}, or take a larger input: positions are lost early.",
)
def early_collapse(net: Net) -> Iterator[Hit]:
    """At least half of four or more convolutions work on maps of less than a 1024th of the input's positions.

    That is a stride of 32 along both sides, which usual backbones reach in their last quarter. Or: one node
    leaves less than a 16th of the values of a map that convolutions with larger kernels still read.
    """
    yield from _late_convolutions(net)
    yield from _collapsing_nodes(net)


@rule(
    "nothing-to-pool",
    "warning",
    summary="a pooling over one position",
    advice="The map is already too small here: remove a stride before {layer}, or take a larger input.",
)
def nothing_to_pool(net: Net) -> Iterator[Hit]:
    """A global pooling over a map with one position, or a pooling with a kernel and stride of 1.

    It does nothing: the strides before it leave no map, mostly as the input is smaller than intended.
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


def _late_convolutions(net: Net) -> Iterator[Hit]:
    """A hit where at least half of the convolutions work on a map that strides have made very small."""
    maps = [layer for layer in net.layers if layer.row.op == "Conv" and _positions(layer.row) > 1]
    if len(maps) < MIN_CONVOLUTIONS:
        return
    largest = max(_positions(layer.row) for layer in maps)
    late = [layer for layer in maps if MIN_LATE_REDUCTION * layer.area <= largest]
    if 2 * len(late) >= len(maps):
        yield Hit(
            layer=late[0].row.name,
            message=f"from here on {len(late)} of {len(maps)} convolutions work on a map of "
            f"{show((late[0].row.output or ())[2:], 'shape')} or less",
            badness=len(late) / len(maps),
            evidence={"late": len(late), "convolutions": len(maps)},
        )


def _collapsing_nodes(net: Net) -> Iterator[Hit]:
    """Hits for single nodes that leave few values of a map, with kernels above 1 still to come."""
    kernels = [layer for layer in net.layers if layer.row.op == "Conv" and _has_kernel(layer)]
    last = kernels[-1].node if kernels else None
    for node, row in net.nodes(*WINDOWED_OPERATORS):
        if node is last:
            return
        data, out = row.input_shapes[0], row.output
        if data is None or out is None or prod(out[2:]) <= 1 or last is None:
            continue
        values, positions = prod(data) / (prod(out) or 1), prod(data[2:]) / (prod(out[2:]) or 1)
        if values >= MIN_COLLAPSE_FACTOR and positions >= MIN_COLLAPSE_FACTOR:
            yield Hit(
                layer=row.name,
                message=f"{show(data, 'shape')} into {show(out, 'shape')}: "
                f"one node leaves one value of {values:.0f}",
                badness=values,
                evidence={"values": values},
            )


def _positions(row: LayerRow) -> int:
    """Positions of the map that a node reads; 1 where its shape is unknown."""
    shape = row.input_shapes[0] if row.input_shapes else None
    return prod(shape[2:]) if shape is not None else 1


def _has_kernel(layer: NetLayer) -> bool:
    weight = layer.row.input_shapes[1] if len(layer.row.input_shapes) > 1 else None
    return weight is not None and prod(weight[2:]) > 1


def _reading_channels(net: Net, layer: NetLayer) -> int:
    """Sum of the channels of all layers that read a layer's output."""
    return sum(reader.channels for reader in net.successors[layer])


def _feeds_directly(predecessor: NetLayer, layer: NetLayer) -> bool:
    """Whether a layer's output is the direct input of another layer, with no non-linearity between."""
    outputs: set[ir.Value | None] = set(predecessor.node.outputs)
    return not outputs.isdisjoint(layer.node.inputs)
