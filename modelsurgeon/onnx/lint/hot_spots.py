"""Rules about layers with a large share of the MACs, the params or the memory traffic."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.onnx.lint.net import DENSE_OPERATORS, Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import percent, show

# Hits need a share that is large in any net, and a multiple of the fair share, 1 / number of layers.
MIN_LARGE_SHARE, MIN_FAIR_SHARES = 1 / 4, 3
DOMINANT_SHARE = 3 / 4  # of a net with few layers, but more than one
MIN_PARAM_SHARE, MIN_FAIR_PARAM_SHARES = 1 / 3, 2
MIN_MAC_RATIO = 100  # two orders of magnitude between neighbours
MIN_MAC_SHARE = 0.1  # of all MACs; a smaller layer saves little, even if it becomes free
MIN_TIME_SHARE = 0.05  # of the estimated time

ADVICE_RECURRENT = (
    "Low rank applies to the product with the input only: `modelsurgeon compress MODEL -o OUT --only {layer} "
    "--energy 0.95`; beyond that, a smaller hidden size or fewer steps."
)
ADVICE_QUANTIZED = (
    "Factorize the model before it is quantized: low rank can't be applied to the integers of {layer}."
)
ADVICE_OTHER = "Only fewer channels or positions make {layer} cheaper: low rank can't be applied to it."


@rule(
    "dominates-macs",
    "note",
    summary="one layer does a large part of all MACs",
    advice="Save work here first: `modelsurgeon compress MODEL -o OUT --only {layer} --energy 0.95`",
    bottleneck=True,
)
def dominates_macs(net: Net) -> Iterator[Hit]:
    """A layer with at least a quarter of all MACs, and three times its fair share; or with three quarters.

    Savings anywhere else can't make the model faster than this layer alone.
    """
    for layer in net.layers:
        share = layer.mac_share
        if 1 > share >= min(max(MIN_LARGE_SHARE, MIN_FAIR_SHARES / len(net.layers)), DOMINANT_SHARE):
            yield Hit(
                layer=layer.row.name,
                message=f"{percent(share)} of all MACs ({show(layer.macs, 'count')}): "
                "the first place to save work",
                badness=share,
                evidence={"mac_share": share, "macs": layer.macs},
                advice=_advice_without_rank(layer.row.op),
            )


@rule(
    "dominates-params",
    "note",
    summary="a fully connected layer holds much of the params",
    advice="Pool the map before it, or factorize it, which saves params below rank {break_even_rank}: "
    "`modelsurgeon compress MODEL -o OUT --only {layer} --method svd --rank {rank}`",
    bottleneck=True,
)
def dominates_params(net: Net) -> Iterator[Hit]:
    """A fully connected layer with at least a third of all params, and twice its fair share.

    Such layers mostly follow a flattened map, and are far from full rank.
    """
    for layer in net.layers:
        share = layer.row.param_share
        if layer.row.op in DENSE_OPERATORS and share >= max(
            MIN_PARAM_SHARE, MIN_FAIR_PARAM_SHARES / len(net.layers)
        ):
            size, saving = show(layer.row.param_bytes, "bytes"), percent(layer.mac_share)
            even, link = _break_even(layer), "but" if layer.mac_share < share else "and"
            yield Hit(
                layer=layer.row.name,
                message=f"holds {percent(share)} of all params ({size}) {link} does {saving} of the MACs",
                badness=share,
                evidence={
                    "param_share": share,
                    "param_bytes": layer.row.param_bytes,
                    "mac_share": layer.mac_share,
                    "break_even_rank": even,
                    "rank": max(1, even // 2),
                },
            )


@rule(
    "uneven",
    "note",
    summary="the MACs of neighbouring layers differ by two orders of magnitude",
    advice="Move work from the larger to the smaller: fewer channels in {layer}, or a stride before it.",
    bottleneck=True,
)
def uneven(net: Net) -> Iterator[Hit]:
    """A layer with a tenth of all MACs has a hundred times as many as its only neighbour on that side.

    Depthwise layers are meant to be cheap and don't count, nor do layers that feed several others.
    """
    for layer in net.layers:
        for predecessor in layer.predecessors if len(layer.predecessors) == 1 else ():
            small, large = sorted((layer, predecessor), key=lambda neighbour: neighbour.macs)
            ratio = large.macs / (small.macs or 1)
            uneven_pair = (
                ratio >= MIN_MAC_RATIO
                and large.mac_share >= MIN_MAC_SHARE
                and len(net.successors[predecessor]) == 1
            )
            if uneven_pair and small.area > 1 and not small.depthwise:
                side = "before" if small is predecessor else "after"
                yield Hit(
                    layer=large.row.name,
                    message=f"does {ratio:.0f} times the MACs of {small.row.name!r} {side} it",
                    badness=ratio,
                    evidence={"ratio": ratio, "macs": large.macs, "neighbour": small.row.name},
                )


@rule(
    "memory-bound",
    "note",
    summary="the time of a layer is limited by memory traffic, not by arithmetic",
    advice="Fewer bytes help here, fewer MACs don't: a larger batch, half precision, or "
    "`modelsurgeon compress MODEL -o OUT --only {layer} --params 0.5`",
    bottleneck=True,
)
def memory_bound(net: Net) -> Iterator[Hit]:
    """A layer takes a twentieth of the time, mostly to read weights, at fewer FLOPs a byte than the machine.

    The time is that of the roofline (Williams, Waterman and Patterson, 2009): the longer of a node's FLOPs
    and its bytes, for every node of the file by itself. --balance sets the FLOPs a byte, 10 by default.
    """
    for layer in net.layers:
        row = layer.row
        share = net.time_of(row) / net.time if net.time else 0.0
        if net.is_memory_bound(row) and share >= MIN_TIME_SHARE and _mostly_weights(row):
            yield Hit(
                layer=row.name,
                message=f"{row.intensity:.2g} FLOPs a byte: limited by reading "
                f"{show(row.param_bytes, 'bytes')} of weights, not by MACs",
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

    It is too wide for its position: memory peaks there, and every node that follows moves it again.
    """
    for layer in net.layers:
        share = layer.row.output_bytes / net.activation_bytes if net.activation_bytes else 0.0
        if share >= max(MIN_LARGE_SHARE, MIN_FAIR_SHARES / len(net.layers)):
            size = show(layer.row.output_bytes, "bytes")
            yield Hit(
                layer=layer.row.name,
                message=f"its output of {show(layer.row.output, 'shape')} takes {percent(share)} "
                f"of all activations ({size})",
                badness=share,
                evidence={"activation_share": share, "output_bytes": layer.row.output_bytes},
            )


def _advice_without_rank(op: str) -> str | None:
    """Advice for an operator that low rank can't be applied to; None for linear ones."""
    if op in LINEAR_OPERATORS:
        return None
    if op in RECURRENT:
        return ADVICE_RECURRENT
    return ADVICE_QUANTIZED if "Integer" in op or op.startswith("Q") else ADVICE_OTHER


def _break_even(layer: NetLayer) -> int:
    """The break-even rank: from here on, two factors of a matrix have as many params as the matrix."""
    shapes = [shape for shape in layer.row.input_shapes if shape is not None and len(shape) == 2]
    m, n = max(shapes, key=prod, default=(1, 1))
    return m * n // (m + n)


def _mostly_weights(row: LayerRow) -> bool:
    """Whether more than half of the bytes that one run moves are weights."""
    return 2 * row.param_bytes * (row.intensity or 0.0) * row.runs > (row.flops or 0)
