"""Layers that stand out, each by a rule, with the evidence in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import onnx_ir as ir

from modelsurgeon.cells import percent, show
from modelsurgeon.onnx.flow import needs
from modelsurgeon.onnx.visits import Visit
from modelsurgeon.rows import Bottleneck, LayerRow

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
DENSE = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})
FEW = 3  # findings of one rule; more would hide those of others


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A layer with MACs, and the ones whose results reach it with no other such layer between."""

    row: LayerRow
    node: ir.Node
    before: tuple[Place, ...]

    @property
    def macs(self) -> int:
        """MACs of one inference."""
        return self.row.macs or 0

    @property
    def mac_share(self) -> float:
        """Its part of all MACs."""
        return self.row.mac_share or 0.0

    @property
    def channels(self) -> int:
        """Output channels of a convolution, output features of a dense layer; 0 where unknown."""
        shape = self.row.output
        return shape[1 if self.row.op in CONVOLUTIONS else -1] if shape and len(shape) > 1 else 0

    @property
    def area(self) -> int:
        """Positions of a convolution's output map; 1 for all else."""
        return prod(self.row.output[2:]) if self.row.output and self.row.op in CONVOLUTIONS else 1

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved by itself."""
        weight = self.row.input_shapes[1] if len(self.row.input_shapes) > 1 else None
        return self.node.attributes.get_int("group", 1) > 1 and weight is not None and weight[1] == 1


Finding = tuple[float, Place, str]  # how bad, where, the evidence
Rule = Callable[[Sequence[Place]], Iterator[Finding]]


def bottlenecks(graph: ir.Graph, visits: Sequence[Visit], rows: Sequence[LayerRow]) -> list[Bottleneck]:
    """What the rules find, of each the worst few."""
    places = _places(graph, visits, rows)
    found: list[Bottleneck] = []
    for name, rule in RULES.items():
        mildest_first = sorted(rule(places), key=lambda finding: finding[0])
        worst_of = {place.row.name: text for _, place, text in mildest_first}
        worst = list(reversed(worst_of.items()))[:FEW]
        found += [Bottleneck(layer=layer, rule=name, message=text) for layer, text in worst]
    return found


def dominates_macs(places: Sequence[Place]) -> Iterator[Finding]:
    """A quarter of all MACs, and three times the fair share."""
    for place in places:
        share = place.mac_share
        if share >= max(0.25, 3 / len(places)):
            text = f"{percent(share)} of all MACs ({show(place.macs, 'count')}): the first place to save work"
            yield share, place, text


def dominates_params(places: Sequence[Place]) -> Iterator[Finding]:
    """A dense layer that holds a third of all params."""
    for place in places:
        share = place.row.param_share
        if place.row.op in DENSE and share >= max(1 / 3, 2 / len(places)):
            size = show(place.row.param_bytes, "bytes")
            saving = percent(place.mac_share)
            yield share, place, f"holds {percent(share)} of all params ({size}) but does {saving} of the MACs"


def uneven(places: Sequence[Place]) -> Iterator[Finding]:
    """Neighbours whose MACs are two orders of magnitude apart; depthwise layers are meant to be cheap."""
    for place in places:
        for earlier in place.before:
            small, large = sorted((place, earlier), key=lambda one: one.macs)
            ratio = large.macs / (small.macs or 1)
            if ratio >= 100 and large.mac_share >= 0.1 and small.area > 1 and not small.depthwise:
                near = "before" if small is earlier else "after"
                yield ratio, large, f"does {ratio:.0f} times the MACs of {small.row.name!r} {near} it"


def narrow(places: Sequence[Place]) -> Iterator[Finding]:
    """Channels fall to an eighth or less and rise again, over a whole feature map: information is lost."""
    for place in places:
        for earlier in place.before:
            for start in earlier.before:
                wide = min(place.channels, start.channels)
                if earlier.area > 1 and 0 < 8 * earlier.channels <= wide:
                    width = f"{start.channels} channels into {earlier.channels}"
                    text = f"squeezes {width} on the way to {place.channels}"
                    yield wide / earlier.channels, earlier, text


def wasted_taps(places: Sequence[Place]) -> Iterator[Finding]:
    """Over half of a kernel's taps fall on padding, as it is larger than the map that is left."""
    for place in places:
        shares = _inside(place)
        if shares and (padded := 1 - prod(shares)) > 0.5 and place.mac_share >= 0.005:
            _, kernel, _ = _sizes(place)
            size = show(place.row.input_shapes[0], "shape")
            text = (
                f"{percent(padded)} of its MACs meet padding: kernel {show(kernel, 'shape')} on input {size}"
            )
            yield padded, place, text


def grown_map(places: Sequence[Place]) -> Iterator[Finding]:
    """A costly convolution on a map at least four times as large as any that comes before it."""
    for place in places:
        if place.row.op != "Conv" or not place.before or place.mac_share < 0.1:
            continue
        largest = max(place.before, key=lambda earlier: earlier.area)
        if 1 < largest.area <= place.area / 4:
            growth = place.area / largest.area
            text = f"works on a map {growth:.0f} times as large as that of {largest.row.name!r} before it"
            yield place.mac_share, place, text


def memory_bound(places: Sequence[Place]) -> Iterator[Finding]:
    """Few FLOPs for each byte, in a layer that holds a tenth of all params: it waits for memory."""
    for place in places:
        intensity = place.row.intensity
        if intensity is not None and intensity < 4 and place.row.param_share >= 0.1:
            size = show(place.row.param_bytes, "bytes")
            text = f"{intensity:.2g} FLOPs a byte: reading {size} of weights takes its time, not its MACs"
            yield place.row.param_share, place, text


RULES: dict[str, Rule] = {
    "dominates-macs": dominates_macs,
    "dominates-params": dominates_params,
    "uneven": uneven,
    "narrow": narrow,
    "wasted-taps": wasted_taps,
    "grown-map": grown_map,
    "memory-bound": memory_bound,
}


def _places(graph: ir.Graph, visits: Sequence[Visit], rows: Sequence[LayerRow]) -> list[Place]:
    """The layers with MACs; inside branches and loops it isn't followed who feeds whom."""
    row_of = {visit.node: row for visit, row in zip(visits, rows, strict=True) if row.macs}
    places = {node: Place(row=row, node=node, before=()) for node, row in row_of.items()}
    reach: dict[ir.Value, tuple[Place, ...]] = {}
    for node in graph:
        before = tuple(dict.fromkeys(place for value in needs(node) for place in reach.get(value, ())))
        if node in row_of:
            places[node] = Place(row=row_of[node], node=node, before=before)
            before = (places[node],)
        reach.update(dict.fromkeys(node.outputs, before))
    return list(places.values())


def _sizes(place: Place) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Spatial sizes of input, kernel and output of a Conv; empty where one is unknown."""
    shapes = (*place.row.input_shapes[:2], place.row.output)
    if place.row.op != "Conv" or len(shapes) < 3 or None in shapes:
        return (), (), ()
    data, weight, out = (shape[2:] for shape in shapes if shape is not None)
    return (data, weight, out) if len(data) == len(weight) == len(out) else ((), (), ())


def _inside(place: Place) -> list[float]:
    """Share of a kernel's taps that meet the input and no padding, for each spatial axis."""
    size, kernel, out = _sizes(place)
    ndim = len(kernel)
    attributes = place.node.attributes
    stride = attributes.get_ints("strides", (1,) * ndim)
    dilation = attributes.get_ints("dilations", (1,) * ndim)
    pads = attributes.get_ints("pads", (0,) * 2 * ndim)
    found = []
    for axis, (n, k, m) in enumerate(zip(size, kernel, out, strict=True)):
        s, d, begin = stride[axis], dilation[axis], pads[axis]
        if attributes.get_string("auto_pad", "NOTSET").startswith("SAME"):
            begin = max((m - 1) * s + d * (k - 1) + 1 - n, 0) // 2
        # Tap t meets the input for the positions p with 0 <= p * s + t * d - begin < n.
        starts = (t * d - begin for t in range(k))
        hits = sum(max(min(m, ceil((n - at) / s)) - max(0, ceil(-at / s)), 0) for at in starts)
        found.append(hits / (m * k) if m * k else 1.0)
    return found
