"""Rules about windows that don't tile the map: positions that nothing reads, windows over padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.lint.windows import WINDOWED_OPERATORS, WINDOWED_POOLS, Axis, windows
from modelsurgeon.report.formatting import percent, show

MIN_DROPPED_SHARE = 0.02  # of the map; classic nets drop one row of a map of 224 without harm
MIN_UNREAD_SHARE = 0.25  # of the map
MIN_PADDED_SHARE = 0.1  # of an average's taps; 3 taps on a map of 35 have 4 %
MIN_WASTED_SHARE, MIN_MAC_SHARE = 0.5, 0.005  # of a kernel's taps, and of all MACs
MAX_POSITIONS = 10**7  # of a map; on larger ones the overlap of several readers isn't counted


@rule(
    "empty-window",
    "error",
    summary="a pooling window sees padding only",
    advice="Lower the padding of {layer}, or turn its ceil_mode off.",
)
def empty_window(net: Net) -> Iterator[Hit]:
    """A window of a pooling lies outside the map, in the padding or beyond it.

    Its output is minus infinity, 0 or NaN, depending on the runtime.
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

    Only where a convolution or pooling loses at least 2 % of its map; dropped padding doesn't count.
    """
    for node, row in net.nodes(*WINDOWED_OPERATORS):
        axes = windows(net, node)
        kept = prod((axis.size - axis.dropped) / axis.size for axis in axes)
        if 1 - kept >= MIN_DROPPED_SHARE and not any(axis.stride > axis.extent for axis in axes):
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
    advice="Move the stride to the last layer before {layer} with a kernel above 1: with only element-wise "
    "nodes between, the outputs stay the same.",
)
def unread_values(net: Net) -> Iterator[Hit]:
    """Every convolution or pooling that reads a map steps over at least a quarter of its positions.

    This happens with a stride larger than the kernel: values computed for the skipped positions are wasted.
    """
    for value, readers in _readers(net):
        axes = [windows(net, node) for node in readers]
        share = _unread_share(axes) if all(axes) else 0.0
        if share >= MIN_UNREAD_SHARE:
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
    summary="most of a kernel falls on padding",
    advice="Take a kernel no larger than the map, a larger input, or remove a stride before {layer}.",
    bottleneck=True,
)
def wasted_taps(net: Net) -> Iterator[Hit]:
    """Over half of a kernel's taps fall on padding, as the kernel is larger than the map.

    Most weights then multiply zeros. Layers with less than .5 % of all MACs don't count.
    """
    for layer in net.layers:
        if layer.row.op != "Conv" or layer.mac_share < MIN_MAC_SHARE:
            continue
        axes = windows(net, layer.node)
        padded = 1 - prod(axis.inside_share for axis in axes)
        if padded > MIN_WASTED_SHARE:
            yield Hit(
                layer=layer.row.name,
                message=f"{percent(padded)} of its MACs meet padding: kernel {_taps(axes)} on input "
                f"{show(layer.row.input_shapes[0], 'shape')}",
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
    """An AveragePool with count_include_pad takes at least a tenth of its taps from padding.

    The edges of its output are pulled towards zero.
    """
    for node, row in net.nodes("AveragePool"):
        padded = 1 - prod(axis.inside_share for axis in windows(net, node))
        if node.attributes.get_int("count_include_pad", 0) and padded >= MIN_PADDED_SHARE:
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

    The ONNX specification changed here: some runtimes divide by the whole window, some by the part inside.
    """
    for node, row in net.nodes("AveragePool"):
        flags = [node.attributes.get_int(name, 0) for name in ("ceil_mode", "count_include_pad")]
        overhang = max((axis.overhang for axis in windows(net, node)), default=0)
        if overhang and all(flags):
            yield Hit(
                layer=row.name,
                message=f"its last window reaches {overhang} beyond the padded map",
                badness=overhang,
                evidence={"overhang": overhang},
            )


def _taps(axes: Sequence[Axis]) -> str:
    return show([axis.taps for axis in axes], "shape")


def _sizes(axes: Sequence[Axis]) -> list[int | None]:
    """Sizes of the map; None where the model leaves one open."""
    return [None if axis.is_open else axis.size for axis in axes]


def _readers(net: Net) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Maps and model inputs that only convolutions and poolings read, with these nodes."""
    results = {value for graph in net.graphs for value in graph.outputs}
    for value in dict.fromkeys(node.inputs[0] for node, _ in net.nodes(*WINDOWED_OPERATORS)):
        if value is None or value in net.constants or value in results:
            continue
        uses = list(value.uses())
        if all(node.op_type in WINDOWED_OPERATORS and not node.domain and index == 0 for node, index in uses):
            yield value, [node for node, _ in uses if node in net.row_of]


def _unread_share(readers: Sequence[Sequence[Axis]]) -> float:
    """The share of a map's positions that no tap of any reader falls on."""
    reads = [[axis.tap_counts > 0 for axis in axes] for axes in readers]
    shares = [prod(float(mask.mean()) for mask in masks) for masks in reads]
    if len(reads) == 1 or sum(shares) >= 1 or prod(axis.size for axis in readers[0]) > MAX_POSITIONS:
        return max(0.0, 1 - sum(shares))
    return 1 - float(np.logical_or.reduce([reduce(np.multiply.outer, masks) for masks in reads]).mean())
