"""Layers whose weights say that a lower rank is enough. These rules read weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.graph.names import LINEAR
from modelsurgeon.onnx.lint.net import Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import percent, show

if TYPE_CHECKING:
    from modelsurgeon.layers import Layer
    from modelsurgeon.surgery.site import Call

KEPT_ENERGY = 0.99  # of the squared norm: a relative error of .1 of the weight
MAX_MAC_SHARE = 0.75  # of the layer's MACs at most, or it isn't worth the change
NOTABLE_SHARE = 0.01  # of all MACs or params; smaller layers have nothing to give


@dataclass(frozen=True, kw_only=True)
class RankCut:
    """A method's rank for one layer, and what share of its MACs is left."""

    method: str
    rank: int
    even: int
    kept: float


@rule(
    "low-rank",
    "note",
    summary="the spectrum of a weight says that a lower rank is enough",
    advice="`modelsurgeon compress MODEL -o OUT --only {layer} --method {method} --rank {rank}`",
    weights=True,
)
def low_rank(net: Net) -> Iterator[Hit]:
    """A method keeps 99 % of the energy of a layer's weight with at most three quarters of the layer's MACs.

    Looked for in layers of the main graph with at least 1 % of all MACs or params, by the methods whose error
    singular values tell (all but CP); a weight that several nodes use is looked at once. It reads weights.
    """
    from modelsurgeon.onnx.layers.operators import weight_place

    seen = set()
    for place in net.places:
        notable = max(place.mac_share, place.row.param_share) >= NOTABLE_SHARE
        if not notable or place.row.op not in LINEAR or place.node.graph is not net.model.graph:
            continue
        weight = stored_source(place.node.inputs[weight_place(place.node)])
        cut = None if weight is None or weight in seen else _cut(place)
        seen.add(weight)
        if cut is not None:
            yield Hit(
                layer=place.row.name,
                message=f"rank {cut.rank} of {cut.method} keeps {percent(KEPT_ENERGY)} of its energy with "
                f"{percent(cut.kept)} of its {show(place.macs, 'count')} MACs (break-even is at {cut.even})",
                badness=(1 - cut.kept) * place.macs,
                evidence=vars(cut),
            )


def _cut(place: NetLayer) -> RankCut | None:
    """The cheapest factorization that keeps the energy; None where none pays or the weight can't be read."""
    from modelsurgeon.onnx.layers import operators

    shape = place.row.input_shapes[1 - operators.weight_place(place.node)]
    try:
        layer = operators.read(place.node, shape)
        if layer.weight.dtype.kind in "iub" or not layer.weight.size or not layer.weight.any():
            return None
        cuts = list(_cuts(layer, operators.call(place.node, layer, shape)))
    except UnsupportedLayer:
        return None
    best = min(cuts, key=lambda cut: cut.kept, default=None)
    return best if best is not None and best.kept <= MAX_MAC_SHARE else None


def _cuts(layer: Layer, call: Call) -> Iterator[RankCut]:
    from modelsurgeon.factorize import METHODS, suited
    from modelsurgeon.factorize.rank import break_even, for_energy, ladder
    from modelsurgeon.layers import chain_macs

    def price(chain: Sequence[Layer]) -> int:
        return chain_macs(chain, *call)

    for name in suited(layer, [name for name, method in METHODS.items() if method.spectral]):
        method = METHODS[name]
        rank = for_energy(method, layer, KEPT_ENERGY, ladder(method, layer, price))
        if isinstance(rank, int):
            kept = price(method.sketch(layer, rank)) / price([layer])
            yield RankCut(method=name, rank=rank, even=break_even(method, layer, price), kept=kept)
