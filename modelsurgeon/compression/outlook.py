"""What a cut will cost, told before it is made: where a net's MACs lie, and what its layers lose by low rank.

The evidence is exact costs and the curves of error against rank. Some nets are factorized already: their 1x1
convolutions around depthwise ones have spectra as flat as those of noise, and no rank pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log1p, prod
from typing import Any

from modelsurgeon.compression.select import Candidate
from modelsurgeon.factorize.channel_selection import CHANNELS
from modelsurgeon.layers import Layer
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import percent
from modelsurgeon.report.table import Table
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Site

COMPARED_SHARE = 0.5  # of a layer's MACs: where curves are compared
FLAT_SPECTRUM_LOSS = 0.3  # of a matrix's energy, lost at half the MACs: noise loses .37 to .40
PLAIN_LOSS = (
    0.15  # the same of kernels, where noise loses .28, and so do kernels that are easily cut on samples
)
LOSSY_ENERGY = 0.1  # the same of outputs on samples
MAX_BLOCK_DISTANCE = 3  # layers before and behind a depthwise one that may belong to it
MIN_ROW_SHARE = 0.005  # a share that isn't worth a row
FACTORIZED_SHARE = 0.5  # of the net's MACs in blocks: then it is one that is factorized already
KEPT_ENERGY = 0.9  # of the energy, after all weights
BLOCKS, KERNELS, MATRICES, REST = (
    "1x1 -> depthwise -> 1x1 blocks",
    "other convolutions with a kernel",
    "other 1x1 and fully connected",
    "what can't be replaced",
)
# Relative L2 at the outputs, up to which the words hold.
ERROR_WORDS = (
    (0.05, "the answers hardly move"),
    (0.2, "the answers move; what that means, the task's own metric tells"),
    (0.5, "the answers change much, and the task will feel it"),
    (float("inf"), "the answers won't hold"),
)


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Layers of one kind. share: of the net's MACs. lost: squared relative error at half of their MACs.

    barren: share of their MACs in layers of which no rank leaves half; those aren't in `lost`. What can't be
    replaced has none of these.
    """

    kind: str
    layers: int | None = None
    share: float
    lost: float | None = None
    barren: float | None = None

    @property
    def whole(self) -> float:
        """The loss with what is barren taken for lost."""
        barren = self.barren or 0.0
        return barren + (1 - barren) * (self.lost or 0.0)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """kinds: where the MACs lie. seen: whether errors are of outputs on samples, or of weights alone.

    cost: what the asked cut will do, in words. net: what low rank can do here at all.
    """

    kinds: Sequence[LayerKind]
    seen: bool
    cost: str
    net: str

    def as_dict(self) -> dict[str, Any]:
        """The outlook as plain JSON data."""
        return {"kinds": [asdict(kind) for kind in self.kinds], "cost": self.cost, "net": self.net}

    def table(self) -> Table:
        """A row a kind of layers; the words stand below."""
        columns = [
            Column(key="kind", title="layers"),
            Column(key="layers", title="number", kind="int"),
            Column(key="share", title="of all MACs", kind="percent"),
            Column(key="lost", title=f"{_what(self.seen)} lose at half", kind="percent"),
            Column(key="barren", title="no rank leaves half", kind="percent", wide=True),
        ]
        rows = [asdict(kind) for kind in self.kinds]
        return Table(
            title="Outlook", columns=columns, rows=rows, notes=[n for n in (self.net, self.cost) if n]
        )


def outlook(
    sites: Sequence[Site],
    options: Mapping[str, Sequence[Candidate]],
    total: int,
    edits: Sequence[FactorizationEdit],
    predicted: float | None,
) -> Outlook:
    """What can be said of a net and of a cut before it is made.

    options: each site's candidates, the first the layer as it is. total: MACs of the net. edits: of the cut.
    predicted: relative L2 at the outputs; None where there are no samples, and the weights alone speak.
    """
    seen = predicted is not None
    blocks = block_layers([(site.name, site.layer) for site in sites if site.name in options])
    groups: dict[str, list[Sequence[Candidate]]] = {name: [] for name in (BLOCKS, KERNELS, MATRICES)}
    for site in sites:
        if site.name in options:
            kind = BLOCKS if site.name in blocks else MATRICES if site.layer.is_pointwise else KERNELS
            groups[kind].append(options[site.name])
    kinds = [_kind(name, found, total) for name, found in groups.items() if found]
    if (rest := 1 - sum(kind.share for kind in kinds)) > MIN_ROW_SHARE:
        kinds.append(LayerKind(kind=REST, share=rest))
    return Outlook(
        kinds=kinds, seen=seen, cost=_cost(edits, predicted), net=_verdict_on_net(kinds, edits, seen=seen)
    )


def block_layers(layers: Sequence[tuple[str, Layer]]) -> set[str]:
    """Names of the layers, in the order of the net, that belong to 1x1 -> depthwise -> 1x1 blocks.

    What stands between, such as the two layers that weigh channels, makes or takes the same channels.
    """
    found: set[str] = set()
    for place, (name, layer) in enumerate(layers):
        if not depthwise(layer):
            continue
        before, after = (
            layers[max(0, place - MAX_BLOCK_DISTANCE) : place],
            layers[place + 1 : place + 1 + MAX_BLOCK_DISTANCE],
        )
        makers = {n for n, one in before if one.is_pointwise and one.out_channels == layer.in_channels}
        takers = {n for n, one in after if one.is_pointwise and one.in_channels == layer.out_channels}
        if makers and takers:
            found |= {name, *makers, *takers}
    return found


def depthwise(layer: Layer) -> bool:
    """Whether each channel has a kernel of its own."""
    return layer.groups > 1 and layer.weight.shape[1] == 1 and prod(layer.kernel) > 1


def _kind(name: str, found: Sequence[Sequence[Candidate]], total: int) -> LayerKind:
    weighed = [(each[0].macs, _lost(each)) for each in found]
    macs = sum(dense for dense, _ in weighed)
    fertile = [(dense, lost) for dense, lost in weighed if lost is not None]
    there = sum(dense for dense, _ in fertile)
    lost = sum(dense * lost for dense, lost in fertile) / there if there else None
    barren = 1 - there / macs if macs else 0.0
    return LayerKind(kind=name, layers=len(found), share=macs / total, lost=lost, barren=barren)


def _lost(found: Sequence[Candidate]) -> float | None:
    """The least squared error of low rank at half of a layer's MACs; None where no rank leaves half."""
    half = COMPARED_SHARE * found[0].macs
    return min((c.error**2 for c in found[1:] if c.method != CHANNELS.name and c.macs <= half), default=None)


def _cost(edits: Sequence[FactorizationEdit], predicted: float | None) -> str:
    if predicted is not None:
        words = next((words for most, words in ERROR_WORDS if predicted <= most), ERROR_WORDS[-1][1])
        return f"this cut: a relative L2 of {predicted:.3g} is predicted at the outputs: {words}"
    errors = [edit.error for edit in edits if edit.skipped is None and edit.error is not None]
    kept = exp(sum(log1p(-min(error**2, 1 - 1e-9)) for error in errors))
    words = "the answers may hold" if kept >= KEPT_ENERGY else "as it is, the answers will hardly hold"
    return (
        f"this cut: {percent(kept)} of the energy survives its {len(errors)} weights, one after another: "
        f"{words}; give --data to repair what can be repaired, and to have the error at the outputs predicted"
    )


def _verdict_on_net(kinds: Sequence[LayerKind], edits: Sequence[FactorizationEdit], *, seen: bool) -> str:
    """What low rank can do here, with the evidence."""
    known = [kind for kind in kinds if kind.barren is not None]
    share = sum(kind.share for kind in known)
    if not share:
        return "there is no layer here that could be replaced"
    limit = LOSSY_ENERGY if seen else FLAT_SPECTRUM_LOSS
    blocks = next((kind for kind in known if kind.kind == BLOCKS and kind.share >= FACTORIZED_SHARE), None)
    if blocks is not None:
        told = f"this net is factorized already: {percent(blocks.share)} of its MACs lie in {BLOCKS}"
        if blocks.whole < limit:
            return f"{told}, yet {_evidence(blocks, seen)}: low rank still pays, if less than in other nets"
        return f"{told}; {_evidence(blocks, seen)}: low rank can't pay here; {_alternative(edits, seen)}"
    whole = sum(kind.share * kind.whole for kind in known) / share
    told = f"half of the MACs of all layers would cost {percent(whole)} of the energy of their {_what(seen)}"
    if not seen and whole >= PLAIN_LOSS:
        return f"{told}; that of their outputs is mostly far less, but only samples tell: give --data"
    return f"{told}: {'low rank costs much here' if whole >= limit else 'low rank pays here'}"


def _evidence(kind: LayerKind, seen: bool) -> str:
    lost = None if kind.lost is None else f"{percent(kind.lost)} of the energy of their {_what(seen)}"
    noise = (
        " (noise would lose 40 %)"
        if not seen and kind.lost is not None and kind.lost >= FLAT_SPECTRUM_LOSS
        else ""
    )
    if lost is None:
        return "no rank leaves half of those"
    if kind.barren and kind.barren > MIN_ROW_SHARE:
        barren = f"no rank leaves half of {percent(kind.barren)} of those"
        return f"{barren}, half of the rest costs {lost}{noise}"
    return f"half of those costs {lost}{noise}"


def _alternative(edits: Sequence[FactorizationEdit], seen: bool) -> str:
    if not seen:
        return "with --data hidden channels can be left out instead, by the method channels"
    if any(edit.method == CHANNELS.name for edit in edits):
        return "hidden channels are left out instead, by the method channels"
    return "keep more of it, or leave it as it is"


def _what(seen: bool) -> str:
    return "outputs" if seen else "weights"
