"""How compressible a model is: which layers have the MACs, what low rank loses there, and what a cut costs.

The evidence is exact costs and the curves of error against rank. Some models are factorized already: their
1x1 convolutions around depthwise ones have spectra as flat as those of noise, and no rank pays. Conclusions
are codes and numbers here; `outlook` has the sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log1p
from typing import Any, Literal

from modelsurgeon.compression.select import Candidate
from modelsurgeon.factorize.channel_selection import CHANNELS
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Site

COMPARED_SHARE = 0.5  # of a layer's MACs: errors are compared at the best rank that leaves so many
FLAT_SPECTRUM_LOSS = 0.3  # of a matrix's energy, lost there; noise loses .37 to .40
# The same of kernels: noise loses .28, but so do trained kernels that are easily cut on samples.
UNCERTAIN_LOSS = 0.15
OUTPUT_LOSS = 0.1  # the same of the energy of outputs on samples
MAX_BLOCK_DISTANCE = 3  # layers before and behind a depthwise one that may belong to its block
MIN_ROW_SHARE = 0.005  # of all MACs: a smaller rest gets no row
FACTORIZED_SHARE = 0.5  # of all MACs in blocks: such a model is factorized already
BLOCKS, KERNELS, MATRICES, REST = (
    "1x1 -> depthwise -> 1x1 blocks",
    "other convolutions with a kernel",
    "other 1x1 and fully connected",
    "what can't be replaced",
)
Verdict = Literal[
    "irreplaceable",  # no layer can be replaced
    "factorized",  # most MACs are in blocks, and low rank doesn't pay there
    "factorized-compressible",  # most MACs are in blocks, and low rank pays all the same
    "uncertain",  # the weights have flat spectra, which says little of the outputs
    "lossy",  # low rank loses much
    "compressible",  # low rank pays
]


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Layers of one kind. share: of the model's MACs. lost: squared relative error at half of their MACs.

    incompressible: share of their MACs in layers of which no rank leaves half; `lost` leaves those out.
    Layers that can't be replaced have neither.
    """

    kind: str
    layers: int | None = None
    share: float
    lost: float | None = None
    incompressible: float | None = None

    @property
    def loss(self) -> float:
        """The squared relative error with incompressible layers taken for lost."""
        incompressible = self.incompressible or 0.0
        return incompressible + (1 - incompressible) * (self.lost or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """The kind as plain JSON data."""
        return {
            "kind": self.kind,
            "layers": self.layers,
            "share": self.share,
            "lost": self.lost,
            "barren": self.incompressible,
        }


@dataclass(frozen=True, kw_only=True)
class Compressibility:
    """kinds: where the MACs are. verdict: what low rank can do for this model. loss: over all kinds.

    predicted: relative L2 to expect at the outputs; None without samples, where errors are of the weights.
    kept_energy: the product of the shares of energy that the cut keeps of its `cut_weights` weights.
    selects_channels: whether the cut leaves hidden channels out.
    """

    kinds: Sequence[LayerKind]
    verdict: Verdict
    loss: float
    predicted: float | None
    kept_energy: float
    cut_weights: int
    selects_channels: bool

    @property
    def blocks(self) -> LayerKind | None:
        """The 1x1 -> depthwise -> 1x1 blocks of a model that is factorized already; None for other models."""
        return _blocks(self.kinds)

    @property
    def loses_like_noise(self) -> bool:
        """Whether the weights of those blocks lose about as much at half of their MACs as noise does."""
        lost = self.blocks.lost if self.blocks else None
        return self.predicted is None and lost is not None and lost >= FLAT_SPECTRUM_LOSS


def compressibility(
    sites: Sequence[Site],
    options: Mapping[str, Sequence[Candidate]],
    total: int,
    edits: Sequence[FactorizationEdit],
    predicted: float | None,
) -> Compressibility:
    """What low rank can do for a model, and what a cut of it will cost, before it is made.

    options: each site's candidates, the first the layer as it is. total: MACs of the model. edits: those of
    the cut. predicted: relative L2 at the outputs; None without samples, and errors are of the weights then.
    """
    kinds = _kinds(sites, options, total)
    errors = [edit.error for edit in edits if edit.skipped is None and edit.error is not None]
    return Compressibility(
        kinds=kinds,
        verdict=_verdict(kinds, on_samples=predicted is not None),
        loss=_loss(kinds),
        predicted=predicted,
        kept_energy=exp(sum(log1p(-min(error**2, 1 - 1e-9)) for error in errors)),
        cut_weights=len(errors),
        selects_channels=any(edit.method == CHANNELS.name for edit in edits),
    )


def block_layers(layers: Sequence[tuple[str, Layer]]) -> set[str]:
    """Names of the layers, in the order of the model, that belong to 1x1 -> depthwise -> 1x1 blocks.

    Layers between them, such as the two of a squeeze-and-excitation, produce or take the same channels.
    """
    found: set[str] = set()
    for place, (name, layer) in enumerate(layers):
        if not layer.is_depthwise or layer.is_pointwise:
            continue
        before = layers[max(0, place - MAX_BLOCK_DISTANCE) : place]
        after = layers[place + 1 : place + 1 + MAX_BLOCK_DISTANCE]
        producers = {n for n, one in before if one.is_pointwise and one.out_channels == layer.in_channels}
        consumers = {n for n, one in after if one.is_pointwise and one.in_channels == layer.out_channels}
        if producers and consumers:
            found |= {name, *producers, *consumers}
    return found


def _blocks(kinds: Sequence[LayerKind]) -> LayerKind | None:
    return next((kind for kind in kinds if kind.kind == BLOCKS and kind.share >= FACTORIZED_SHARE), None)


def _kinds(sites: Sequence[Site], options: Mapping[str, Sequence[Candidate]], total: int) -> list[LayerKind]:
    blocks = block_layers([(site.name, site.layer) for site in sites if site.name in options])
    groups: dict[str, list[Sequence[Candidate]]] = {name: [] for name in (BLOCKS, KERNELS, MATRICES)}
    for site in sites:
        if site.name in options:
            kind = BLOCKS if site.name in blocks else MATRICES if site.layer.is_pointwise else KERNELS
            groups[kind].append(options[site.name])
    kinds = [_kind(name, found, total) for name, found in groups.items() if found]
    if (rest := 1 - sum(kind.share for kind in kinds)) > MIN_ROW_SHARE:
        kinds.append(LayerKind(kind=REST, share=rest))
    return kinds


def _kind(name: str, found: Sequence[Sequence[Candidate]], total: int) -> LayerKind:
    losses = [(each[0].macs, _error_at_half(each)) for each in found]
    macs = sum(dense for dense, _ in losses)
    compressible = [(dense, lost) for dense, lost in losses if lost is not None]
    there = sum(dense for dense, _ in compressible)
    lost = sum(dense * lost for dense, lost in compressible) / there if there else None
    incompressible = 1 - there / macs if macs else 0.0
    return LayerKind(
        kind=name, layers=len(found), share=macs / total, lost=lost, incompressible=incompressible
    )


def _error_at_half(found: Sequence[Candidate]) -> float | None:
    """The least squared error of low rank at half of a layer's MACs; None where no rank leaves half."""
    half = COMPARED_SHARE * found[0].macs
    return min((c.error**2 for c in found[1:] if c.method != CHANNELS.name and c.macs <= half), default=None)


def _loss(kinds: Sequence[LayerKind]) -> float:
    """The squared relative error at half of the MACs, over all layers that can be replaced."""
    known = [kind for kind in kinds if kind.incompressible is not None]
    share = sum(kind.share for kind in known)
    return sum(kind.share * kind.loss for kind in known) / share if share else 0.0


def _verdict(kinds: Sequence[LayerKind], *, on_samples: bool) -> Verdict:
    known = [kind for kind in kinds if kind.incompressible is not None]
    if not sum(kind.share for kind in known):
        return "irreplaceable"
    limit = OUTPUT_LOSS if on_samples else FLAT_SPECTRUM_LOSS
    blocks = _blocks(known)
    if blocks is not None:
        return "factorized-compressible" if blocks.loss < limit else "factorized"
    loss = _loss(kinds)
    if not on_samples and loss >= UNCERTAIN_LOSS:
        return "uncertain"
    return "lossy" if loss >= limit else "compressible"
