"""A plan from a goal that holds for every layer by itself: a rank, a share of the energy or of the MACs.

Every layer that the goal leaves as it is gets an edit with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from modelsurgeon.compression.candidates import Decision
from modelsurgeon.compression.goal import EVBMF, parse_share
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import METHODS, Method, Rank, suited
from modelsurgeon.factorize.rank import (
    RANK_BLOCK,
    Price,
    break_even,
    candidate_ranks,
    for_energy,
    for_share,
    for_spectrum,
    frontier,
)
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import Site


def plan_by_rank(
    sites: Iterable[Site], rank: int | str, methods: Sequence[str], *, block: int = RANK_BLOCK
) -> Decision:
    """That rank wherever it pays: each layer gets the first of `methods` whose chain costs less than it.

    rank: a number, or how each layer finds its own, which is then a multiple of `block`; see `Goal`.
    """
    if isinstance(rank, int):
        return _decide_each(sites, lambda site: _step_for_rank(site, rank, methods))
    if rank == EVBMF:
        return _decide_each(sites, lambda site: _step_for_spectrum(site, methods, block))
    return _decide_each(sites, lambda site: _step_for_share(site, parse_share(rank), methods, block))


def plan_by_energy(
    sites: Iterable[Site], energy: float, methods: Sequence[str], *, block: int = RANK_BLOCK
) -> Decision:
    """For each layer, the cheapest chain that keeps that share of the weight's energy."""
    return _decide_each(sites, lambda site: _step_for_energy(site, energy, methods, block))


def _decide_each(sites: Iterable[Site], step: Callable[[Site], PlanStep]) -> Decision:
    """The step for every site; where `step` raises UnsupportedLayer, an edit with the reason."""
    steps, skipped = {}, []
    for site in sites:
        try:
            steps[site.name] = step(site)
        except UnsupportedLayer as reason:
            skipped.append(FactorizationEdit(layer=site.name, skipped=str(reason)))
    return Decision(plan=Plan(steps), skipped=skipped)


def _step_for_rank(site: Site, rank: int, methods: Sequence[str]) -> PlanStep:
    layer, price = site.layer, _macs_price(site)
    whole = price([layer])
    methods = suited(layer, methods)
    for name in methods:
        if price(METHODS[name].sketch(layer, rank)) < whole:
            return PlanStep(method=name, rank=METHODS[name].clip(layer, rank))
    largest = {name: break_even(METHODS[name], layer, price) for name in methods}
    paying = ", ".join(f"{name} up to {most}" for name, most in largest.items() if most) or "no rank does"
    raise UnsupportedLayer(f"rank {rank} costs no less than the layer; what pays: {paying}")


def _step_for_energy(site: Site, energy: float, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _macs_price(site)
    best: tuple[int, PlanStep] | None = None
    for name in suited(layer, methods):
        method = METHODS[name]
        ranks = _paying_ranks(method, layer, price, block)
        if best is not None:  # a method that can't be cheaper needs no error
            ranks = [r for r in ranks if price(method.sketch(layer, r)) < best[0]]
        rank = for_energy(method, layer, energy, ranks)
        if rank is not None:
            best = price(method.sketch(layer, rank)), PlanStep(method=name, rank=method.clip(layer, rank))
    if best is None:
        raise UnsupportedLayer(f"no rank that keeps {energy:.1%} of its energy costs less than the layer")
    return best[1]


def _paying_ranks(method: Method[Any], layer: Layer, price: Price, block: int) -> Sequence[Rank]:
    """Ranks, or pairs of them, that cost less than the layer; cheapest first."""
    if isinstance(method.full_rank(layer), tuple):
        error = partial(method.error, layer)
        return [rank for rank, _ in frontier(method, layer, price, error, block=block)]
    return candidate_ranks(method, layer, price, block=block)


def _step_for_spectrum(site: Site, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _macs_price(site)
    whole = price([layer])
    for name in suited(layer, methods):
        method = METHODS[name]
        rank = for_spectrum(method, layer, block=block) if method.spectral else None
        if rank is not None and price(method.sketch(layer, rank)) < whole:
            return PlanStep(method=name, rank=rank)
    raise UnsupportedLayer("no rank that its spectrum suggests (evbmf) costs less than the layer")


def _step_for_share(site: Site, most: float, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _macs_price(site)
    ranks = {
        name: for_share(METHODS[name], layer, most, price, block=block) for name in suited(layer, methods)
    }
    errors = {name: METHODS[name].error(layer, [rank])[0] for name, rank in ranks.items() if rank}
    if not errors:
        raise UnsupportedLayer(f"no rank leaves {most:.1%} of the layer's MACs or fewer")
    best = min(errors, key=lambda name: errors[name])
    return PlanStep(method=best, rank=METHODS[best].clip(layer, ranks[best] or 1))


def _macs_price(site: Site) -> Price:
    """MACs of a chain at a site."""
    return lambda chain: macs(chain, site.calls)
