"""The rule about layers that a factorization of lower rank could replace. It reads weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.lint.net import Net, NetLayer
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import percent, show

if TYPE_CHECKING:
    from modelsurgeon.layers import Layer
    from modelsurgeon.surgery.site import Call

MIN_ENERGY = 0.99  # of the squared norm: a relative error of .1 of the weight
MAX_MAC_SHARE = 0.75  # of the layer's MACs; above, the change isn't worth it
MIN_SHARE = 0.01  # of all MACs or params; smaller layers save nothing notable


@dataclass(frozen=True, kw_only=True)
class RankCut:
    """Rank of a method for one layer. even: its break-even rank. kept: the share of the layer's MACs left."""

    method: str
    rank: int
    even: int
    kept: float


@rule(
    "low-rank",
    "note",
    summary="a lower rank keeps nearly all of a weight's energy",
    advice="`modelsurgeon compress MODEL -o OUT --only {layer} --method {method} --rank {rank}`",
    weights=True,
)
def low_rank(net: Net) -> Iterator[Hit]:
    """A method keeps 99 % of the energy of a layer's weight with at most three quarters of the layer's MACs.

    It checks layers of the main graph with at least 1 % of all MACs or params, by the methods whose error
    follows from singular values (all but CP), and a weight that several nodes use once. It reads weights.
    """
    from modelsurgeon.onnx.layers.operators import weight_input_index

    seen = set()
    for net_layer in net.layers:
        notable = max(net_layer.mac_share, net_layer.row.param_share) >= MIN_SHARE
        if (
            not notable
            or net_layer.row.op not in LINEAR_OPERATORS
            or net_layer.node.graph is not net.model.graph
        ):
            continue
        weight = stored_source(net_layer.node.inputs[weight_input_index(net_layer.node)])
        cut = None if weight is None or weight in seen else _best_cut(net_layer)
        seen.add(weight)
        if cut is not None:
            yield Hit(
                layer=net_layer.row.name,
                message=f"rank {cut.rank} of {cut.method} keeps {percent(MIN_ENERGY)} of its energy with "
                f"{percent(cut.kept)} of its {show(net_layer.macs, 'count')} MACs "
                f"(break-even is at {cut.even})",
                badness=(1 - cut.kept) * net_layer.macs,
                evidence=vars(cut),
            )


def _best_cut(net_layer: NetLayer) -> RankCut | None:
    """The cheapest factorization that keeps the energy; None where it saves too little or isn't possible."""
    from modelsurgeon.onnx.layers import operators

    shape = net_layer.row.input_shapes[1 - operators.weight_input_index(net_layer.node)]
    try:
        layer = operators.read(net_layer.node, shape)
        if layer.weight.dtype.kind in "iub" or not layer.weight.size or not layer.weight.any():
            return None
        cuts = list(_rank_cuts(layer, operators.call(net_layer.node, layer, shape)))
    except UnsupportedLayer:
        return None
    best = min(cuts, key=lambda cut: cut.kept, default=None)
    return best if best is not None and best.kept <= MAX_MAC_SHARE else None


def _rank_cuts(layer: Layer, call: Call) -> Iterator[RankCut]:
    from modelsurgeon.factorize import METHODS, suited
    from modelsurgeon.factorize.rank import break_even, candidate_ranks, for_energy
    from modelsurgeon.layers import chain_macs

    def price(chain: Sequence[Layer]) -> int:
        return chain_macs(chain, *call)

    for name in suited(layer, [name for name, method in METHODS.items() if method.spectral]):
        method = METHODS[name]
        rank = for_energy(method, layer, MIN_ENERGY, candidate_ranks(method, layer, price))
        if isinstance(rank, int):
            kept = price(method.sketch(layer, rank)) / price([layer])
            yield RankCut(method=name, rank=rank, even=break_even(method, layer, price), kept=kept)
