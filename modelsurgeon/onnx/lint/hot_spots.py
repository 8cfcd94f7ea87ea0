"""Where the operations, the params and the memory traffic go."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.graph.names import LINEAR
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.onnx.lint.net import DENSE, Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import percent, show

# A share that is large in any net, and large for a net of so few layers.
LARGE_SHARE, FAIR_SHARES = 1 / 4, 3
ALMOST_ALL = 3 / 4  # of a net with few layers, but more than one
LARGE_STORE, FAIR_STORES = 1 / 3, 2
FAR_APART = 100  # two orders of magnitude
NOTABLE_SHARE = 0.1  # below, even a layer that is free in the end saves little
NOTABLE_TIME = 0.05

INPUT_ALONE = (
    "Low rank takes the product with the input alone: `modelsurgeon compress MODEL -o OUT --only {layer} "
    "--energy 0.95`; beyond that, a smaller hidden size or fewer steps."
)
BEFORE = "Factorize the model before it is quantised: low rank has no form for the integers of {layer}."
SMALLER = "Fewer channels or positions are what makes {layer} cheaper: low rank has no form for it."


@rule(
    "dominates-macs",
    "note",
    summary="one layer does a large part of all MACs",
    advice="Save work here first: `modelsurgeon compress MODEL -o OUT --only {layer} --energy 0.95`",
    bottleneck=True,
)
def dominates_macs(net: Net) -> Iterator[Hit]:
    """A layer with at least a quarter of all MACs, and three times its fair share; or with three quarters.

    What is saved anywhere else can't make the model faster than this layer lets it be.
    """
    for place in net.places:
        share = place.mac_share
        if 1 > share >= min(max(LARGE_SHARE, FAIR_SHARES / len(net.places)), ALMOST_ALL):
            yield Hit(
                layer=place.row.name,
                message=f"{percent(share)} of all MACs ({show(place.macs, 'count')}): "
                "the first place to save work",
                badness=share,
                evidence={"mac_share": share, "macs": place.macs},
                advice=_instead(place.row.op),
            )


@rule(
    "dominates-params",
    "note",
    summary="a fully connected layer holds much of the params",
    advice="Pool the map before it, or cut it in two, which stores less below rank {break_even_rank}: "
    "`modelsurgeon compress MODEL -o OUT --only {layer} --method svd --rank {rank}`",
    bottleneck=True,
)
def dominates_params(net: Net) -> Iterator[Hit]:
    """A fully connected layer with at least a third of all params, and twice its fair share.

    Such layers stand behind a flattened map, and are mostly far from full rank.
    """
    for place in net.places:
        share = place.row.param_share
        if place.row.op in DENSE and share >= max(LARGE_STORE, FAIR_STORES / len(net.places)):
            size, saving = show(place.row.param_bytes, "bytes"), percent(place.mac_share)
            even, joined = _break_even(place), "but" if place.mac_share < share else "and"
            yield Hit(
                layer=place.row.name,
                message=f"holds {percent(share)} of all params ({size}) {joined} does {saving} of the MACs",
                badness=share,
                evidence={
                    "param_share": share,
                    "param_bytes": place.row.param_bytes,
                    "mac_share": place.mac_share,
                    "break_even_rank": even,
                    "rank": max(1, even // 2),
                },
            )


@rule(
    "uneven",
    "note",
    summary="neighbouring layers are two orders of magnitude apart in MACs",
    advice="Move work from the larger to the smaller: fewer channels in {layer}, or a stride before it.",
    bottleneck=True,
)
def uneven(net: Net) -> Iterator[Hit]:
    """A layer with a tenth of all MACs does a hundred times as many as its only neighbour on that side.

    Depthwise layers are meant to be cheap and don't count, nor do the branches of a layer with several.
    """
    for place in net.places:
        for earlier in place.before if len(place.before) == 1 else ():
            small, large = sorted((place, earlier), key=lambda one: one.macs)
            ratio = large.macs / (small.macs or 1)
            far = ratio >= FAR_APART and large.mac_share >= NOTABLE_SHARE and len(net.followers[earlier]) == 1
            if far and small.area > 1 and not small.depthwise:
                near = "before" if small is earlier else "after"
                yield Hit(
                    layer=large.row.name,
                    message=f"does {ratio:.0f} times the MACs of {small.row.name!r} {near} it",
                    badness=ratio,
                    evidence={"ratio": ratio, "macs": large.macs, "neighbour": small.row.name},
                )


@rule(
    "memory-bound",
    "note",
    summary="a layer waits for memory, not for arithmetic",
    advice="Fewer bytes help here, fewer MACs don't: a larger batch, half precision, or "
    "`modelsurgeon compress MODEL -o OUT --only {layer} --params 0.5`",
    bottleneck=True,
)
def memory_bound(net: Net) -> Iterator[Hit]:
    """A layer takes a twentieth of the time to read its weights, at fewer FLOPs a byte than the machine's.

    The time is that of the roofline (Williams, Waterman and Patterson, 2009): the longer of a node's FLOPs
    and its bytes, every node as it stands in the file. --balance sets the FLOPs a byte, 10 by default.
    """
    for place in net.places:
        row = place.row
        share = net.time_of(row) / net.time if net.time else 0.0
        if net.waits(row) and share >= NOTABLE_TIME and _mostly_weights(row):
            yield Hit(
                layer=row.name,
                message=f"{row.intensity:.2g} FLOPs a byte: reading {show(row.param_bytes, 'bytes')} "
                "of weights takes its time, not its MACs",
                badness=share,
                evidence={"intensity": row.intensity, "balance": net.balance, "time_share": share},
            )


@rule(
    "dominates-activations",
    "note",
    summary="one feature map takes much of the memory for activations",
    advice="Pool or stride before {layer}, or give it fewer channels.",
    bottleneck=True,
)
def dominates_activations(net: Net) -> Iterator[Hit]:
    """A layer's output has a quarter of the bytes of all activations, and three times its fair share.

    It is too wide for where it stands: memory peaks there, and every node behind it moves it again.
    """
    for place in net.places:
        share = place.row.output_bytes / net.activation_bytes if net.activation_bytes else 0.0
        if share >= max(LARGE_SHARE, FAIR_SHARES / len(net.places)):
            size = show(place.row.output_bytes, "bytes")
            yield Hit(
                layer=place.row.name,
                message=f"its output of {show(place.row.output, 'shape')} takes {percent(share)} "
                f"of all activations ({size})",
                badness=share,
                evidence={"activation_share": share, "output_bytes": place.row.output_bytes},
            )


def _instead(op: str) -> str | None:
    """What to do about a layer that low rank has no form for."""
    if op in LINEAR:
        return None
    if op in RECURRENT:
        return INPUT_ALONE
    return BEFORE if "Integer" in op or op.startswith("Q") else SMALLER


def _break_even(place: NetLayer) -> int:
    """The rank from which two factors of a matrix hold as many params as the matrix."""
    shapes = [shape for shape in place.row.input_shapes if shape is not None and len(shape) == 2]
    m, n = max(shapes, key=prod, default=(1, 1))
    return m * n // (m + n)


def _mostly_weights(row: LayerRow) -> bool:
    """Whether more than half of the bytes that one run moves are weights."""
    return 2 * row.param_bytes * (row.intensity or 0.0) * row.runs > (row.flops or 0)
