"""Windows that don't tile the map: values that nothing reads, and windows that see too little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import WINDOWED, WINDOWED_POOLS, Axis, windows
from modelsurgeon.report.formatting import percent, show

# One row of a map of 224: classic nets drop as much without anybody missing it.
DROPPED_SHARE = 0.02
UNREAD_SHARE = 0.25
PADDED_SHARE = 0.1  # of an average's taps; 3 taps on a map of 35 have 4 %
WASTED_SHARE, WASTED_MACS = 0.5, 0.005
MAX_POSITIONS = 10**7  # positions; on larger maps several readers aren't put together


@rule(
    "empty-window",
    "error",
    summary="a pooling window sees padding only",
    advice="Lower the padding of {layer}, or turn its ceil_mode off.",
)
def empty_window(net: Net) -> Iterator[Hit]:
    """A window of a pooling lies outside the map, in the padding or beyond it.

    What comes out there is minus infinity, 0 or NaN, depending on the runtime.
    """
    for node, row in net.nodes(*WINDOWED_POOLS):
        axes = windows(net, node)
        if empty := max((axis.empty for axis in axes), default=0):
            yield Hit(
                layer=row.name,
                message=f"{empty} of {axes[0].count} windows along an axis see padding only",
                badness=empty,
                evidence={"empty": empty},
            )


@rule(
    "drops-edge",
    "warning",
    summary="the last rows and columns of a map are never read",
    advice="Make (size + padding - kernel) / stride whole: pad {layer} at the end, set ceil_mode, or choose "
    "an input size that fits.",
)
def drops_edge(net: Net) -> Iterator[Hit]:
    """(size + padding - kernel) / stride isn't whole and is rounded down: positions at the end are lost.

    Told where a convolution or pooling loses at least 2 % of its map; what has cost padding alone isn't lost.
    """
    for node, row in net.nodes(*WINDOWED):
        axes = windows(net, node)
        kept = prod((axis.size - axis.dropped) / axis.size for axis in axes)
        if 1 - kept >= DROPPED_SHARE and not any(axis.stride > axis.extent for axis in axes):
            lost = [axis.dropped for axis in axes]
            yield Hit(
                layer=row.name,
                message=f"drops {show(lost, 'shape')} of {show(_sizes(axes), 'shape')} positions at the end: "
                f"{percent(1 - kept)} of its input is never read",
                badness=1 - kept,
                evidence={"dropped": lost, "share": 1 - kept},
            )


@rule(
    "unread-values",
    "warning",
    summary="values are computed that nothing reads",
    advice="Stride where the map is made instead, in the last layer before {layer} with a kernel above 1: "
    "with only element-wise nodes between, the answers stay the same.",
)
def unread_values(net: Net) -> Iterator[Hit]:
    """Every convolution or pooling that reads a map steps over at least a quarter of its positions.

    A stride larger than the kernel does that: what was computed for the positions between is thrown away.
    """
    for value, readers in _readers(net):
        axes = [windows(net, node) for node in readers]
        share = _unread(axes) if all(axes) else 0.0
        if share >= UNREAD_SHARE:
            yield Hit(
                layer=net.row_of[readers[0]].name,
                message=f"{percent(share)} of the positions of {value.name!r} are read by nothing: "
                f"kernel {_taps(axes[0])}, "
                f"stride {show([axis.stride for axis in axes[0]], 'shape')}",
                badness=share,
                evidence={"share": share, "readers": len(readers)},
            )


@rule(
    "wasted-taps",
    "warning",
    summary="most of a kernel meets padding",
    advice="Take a kernel no larger than the map, a larger input, or one stride less before {layer}.",
    bottleneck=True,
)
def wasted_taps(net: Net) -> Iterator[Hit]:
    """Over half of a kernel's taps fall on padding, as it is larger than the map that is left.

    The map is too small for its kernel there: most weights multiply zeros. Layers with less than .5 % of all
    MACs aren't told.
    """
    for place in net.places:
        if place.row.op != "Conv" or place.mac_share < WASTED_MACS:
            continue
        axes = windows(net, place.node)
        padded = 1 - prod(axis.inside for axis in axes)
        if padded > WASTED_SHARE:
            yield Hit(
                layer=place.row.name,
                message=f"{percent(padded)} of its MACs meet padding: kernel {_taps(axes)} on input "
                f"{show(place.row.input_shapes[0], 'shape')}",
                badness=padded,
                evidence={"share": padded},
            )


@rule(
    "averages-padding",
    "note",
    summary="an average counts zeros beyond the edge",
    advice="Set count_include_pad to 0 if the net wasn't trained so, or pad less.",
)
def averages_padding(net: Net) -> Iterator[Hit]:
    """An AveragePool with count_include_pad takes a tenth of its taps from padding, at least.

    The edges of what comes out are drawn towards zero.
    """
    for node, row in net.nodes("AveragePool"):
        padded = 1 - prod(axis.inside for axis in windows(net, node))
        if node.attributes.get_int("count_include_pad", 0) and padded >= PADDED_SHARE:
            yield Hit(
                layer=row.name,
                message=f"{percent(padded)} of what it averages is padding",
                badness=padded,
                evidence={"share": padded},
            )


@rule(
    "overhanging-window",
    "note",
    summary="runtimes disagree on the last window of an average",
    advice="Pad {layer} so that its windows fit, and turn ceil_mode off: every runtime then gives the same.",
)
def overhanging_window(net: Net) -> Iterator[Hit]:
    """With ceil_mode, the last window of an AveragePool that counts padding reaches beyond map and padding.

    The specification was mended there: some runtimes divide by the whole window, some by what is left.
    """
    for node, row in net.nodes("AveragePool"):
        flags = [node.attributes.get_int(name, 0) for name in ("ceil_mode", "count_include_pad")]
        over = max((axis.overhang for axis in windows(net, node)), default=0)
        if over and all(flags):
            yield Hit(
                layer=row.name,
                message=f"its last window reaches {over} beyond the padded map",
                badness=over,
                evidence={"overhang": over},
            )


def _taps(axes: Sequence[Axis]) -> str:
    return show([axis.taps for axis in axes], "shape")


def _sizes(axes: Sequence[Axis]) -> list[int | None]:
    """Of the map; None where the model leaves a size open."""
    return [None if axis.open else axis.size for axis in axes]


def _readers(net: Net) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Computed maps and inputs that convolutions and poolings alone read."""
    results = {value for graph in net.graphs for value in graph.outputs}
    for value in dict.fromkeys(node.inputs[0] for node, _ in net.nodes(*WINDOWED)):
        if value is None or value in net.fixed or value in results:
            continue
        uses = list(value.uses())
        if all(node.op_type in WINDOWED and not node.domain and place == 0 for node, place in uses):
            yield value, [node for node, _ in uses if node in net.row_of]


def _unread(readers: Sequence[Sequence[Axis]]) -> float:
    """The share of a map's positions on which no tap of any reader falls."""
    reads = [[axis.seen > 0 for axis in axes] for axes in readers]
    shares = [prod(float(mask.mean()) for mask in masks) for masks in reads]
    if len(reads) == 1 or sum(shares) >= 1 or prod(axis.size for axis in readers[0]) > MAX_POSITIONS:
        return max(0.0, 1 - sum(shares))
    return 1 - float(np.logical_or.reduce([reduce(np.multiply.outer, masks) for masks in reads]).mean())
