"""From a wish for the whole net to a step per layer: by rank, by energy, or by a budget.

Every layer that the wish leaves as it is gets an edit with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import log1p
from typing import Any, Literal, TypeVar

import numpy as np

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.sensitivity import Calibration
from modelsurgeon.compression.goal import EVBMF, share
from modelsurgeon.compression.latency_model import pays
from modelsurgeon.compression.select import Candidate, Cost, cheapest, select
from modelsurgeon.errors import Unreachable, UnsupportedLayer
from modelsurgeon.factorize import METHODS, Method, Rank, suited
from modelsurgeon.factorize.channel_selection import CHANNELS
from modelsurgeon.factorize.rank import (
    RANK_BLOCK,
    Price,
    break_even,
    for_energy,
    for_share,
    for_spectrum,
    frontier,
    ladder,
)
from modelsurgeon.layers import Layer, chain_params
from modelsurgeon.surgery.apply import computed_part, edit_for, macs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import Site

T = TypeVar("T")
Resource = Literal["macs", "params", "milliseconds"]
MAX_RANKS_PER_METHOD = 24  # ranks tried per layer and method
MAX_ENERGY_LOST = 1 - 1e-9  # of a weight's energy; all of it would be damage without end
TRIAL_ERROR = 0.3  # relative error: well above what few samples leave open, and not yet all that can be lost
MAX_COSTLY_RANKS = 4  # of them decomposed where each takes a run of its own


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A plan, and why the layers that it doesn't name are left alone.

    firm: carried out however slow. errors: of the outputs of each layer cut alone, relative, where the choice
    was made by them. options: what there was to choose from.
    """

    plan: Plan
    kept: Sequence[FactorizationEdit] = field(default=())
    firm: bool = False
    errors: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Sequence[Candidate]] = field(default_factory=dict, repr=False)


def plan_by_rank(
    sites: Iterable[Site], rank: int | str, methods: Sequence[str], *, block: int = RANK_BLOCK
) -> Decision:
    """That rank wherever it pays: the first of `methods` whose chain costs less than the layer.

    rank: a number, or how each layer finds its own, a multiple of `block` then; see `Goal`.
    """
    if isinstance(rank, int):
        return _decide_each(sites, lambda site: _step_for_rank(site, rank, methods))
    if rank == EVBMF:
        return _decide_each(sites, lambda site: _step_for_spectrum(site, methods, block))
    return _decide_each(sites, lambda site: _step_for_share(site, share(rank), methods, block))


def plan_by_energy(
    sites: Iterable[Site], energy: float, methods: Sequence[str], *, block: int = RANK_BLOCK
) -> Decision:
    """For each layer, the cheapest chain that keeps that share of the weight's energy."""
    return _decide_each(sites, lambda site: _step_for_energy(site, energy, methods, block))


def plan_by_budget(
    options: Mapping[str, Sequence[Candidate]], fraction: float, total: float, resource: Resource
) -> Decision:
    """The least damage with `fraction` of the net's `total` MACs, params or milliseconds left.

    options: from `site_candidates`. Raises Unreachable where even the cheapest candidates leave more.
    """
    price = _candidate_price(resource)
    if (least := least_fraction(options, total, resource)) > fraction:
        raise Unreachable(
            f"at least {least:.3f} of the {resource} remain with the layers and "
            f"methods that can be used; {fraction:g} was asked for"
        )
    chosen = select(options, fraction * total - _untouched_cost(options, total, price), price)
    steps = {
        n: PlanStep(method=c.method, rank=c.rank or 1) for n, c in chosen.items() if c.method is not None
    }
    kept = [
        FactorizationEdit(layer=name, skipped="the budget is met with less damage elsewhere")
        for name, found in options.items()
        if name not in steps
        and not any(name in c.whole for c in chosen.values())
        and not _is_shared_input(found)
    ]
    return Decision(plan=Plan(steps), kept=kept, errors={name: chosen[name].error for name in steps})


def least_fraction(options: Mapping[str, Sequence[Candidate]], total: float, resource: Resource) -> float:
    """The smallest fraction of the net's `total` that any choice leaves."""
    price = _candidate_price(resource)
    return (
        _untouched_cost(options, total, price) + sum(map(price, cheapest(options, price).values()))
    ) / total


def _untouched_cost(options: Mapping[str, Sequence[Candidate]], total: float, price: Cost) -> float:
    """What the rest of the net costs, which no option touches."""
    return total - sum(price(c) for found in options.values() for c in found if c.method is None)


def candidates_by_site(
    sites: Iterable[Site],
    methods: Sequence[str],
    resource: Resource,
    calibration: Calibration,
    *,
    block: int = RANK_BLOCK,
) -> tuple[dict[str, list[Candidate]], list[FactorizationEdit]]:
    """The candidates of every site, and an edit for each whose weight can't be factorized."""
    found, broken = {}, []
    for site in sites:
        try:
            found[site.name] = site_candidates(site, calibration.view(site), methods, resource, block=block)
        except UnsupportedLayer as reason:
            broken.append(FactorizationEdit(layer=site.name, skipped=str(reason)))
    return found, broken


def site_candidates(
    site: Site, view: CalibratedLayer, methods: Sequence[str], resource: Resource, *, block: int = RANK_BLOCK
) -> list[Candidate]:
    """The layer as it is, and every chain worth trying that costs less of the resource and no more MACs.

    Where milliseconds are the resource, which are measured later, it costs fewer MACs; else its share of them
    is such that it is expected to be quicker, too.
    Damage is minus the logarithm of the energy that a layer keeps: what survives all layers is a product.
    """
    layer = view.layer
    dense = Candidate(macs=macs([layer], site.calls), params=layer.params + site.extra_params)
    found = [dense, *(channel_candidates(site, view, block) if CHANNELS.name in methods else ())]
    for name in suited(layer, methods):
        for rank, error in _ranks_with_errors(site, view, name, resource, block):
            chain = view.sketch(name, rank)
            found.append(
                Candidate(
                    method=name,
                    rank=METHODS[name].clip(layer, rank),
                    macs=macs(chain, site.calls),
                    params=chain_params(chain),
                    error=error,
                    damage=-log1p(-min(error**2, MAX_ENERGY_LOST)),
                )
            )
    found = [c for c in found if c.macs <= dense.macs]
    return _shared_input_candidates(found, site.members) if site.members else found


def _shared_input_candidates(found: Sequence[Candidate], parts: Sequence[str]) -> list[Candidate]:
    """The candidates of a union: what its parts cost as they are counts there, and is saved here."""
    dense = found[0]
    return [
        replace(
            c,
            macs=c.macs - dense.macs,
            params=c.params - dense.params,
            damage=c.damage * len(parts),
            whole=tuple(parts) if c.method else (),
        )
        for c in found
    ]


def _is_shared_input(found: Sequence[Candidate]) -> bool:
    """Whether as they are they cost nothing that their parts don't tell of."""
    return not found[0].params


def _ranks_with_errors(
    site: Site, view: CalibratedLayer, name: str, resource: Resource, block: int
) -> list[tuple[Rank, float]]:
    """Ranks of a method that are worth trying, with their errors; of pairs, those that nothing betters."""
    method, layer, price = METHODS[name], view.layer, _price(site, resource)

    def quick(rank: Rank) -> bool:
        return resource == "milliseconds" or pays(layer, view.sketch(name, rank), site.calls)

    if isinstance(method.full_rank(layer), tuple):
        every = frontier(method, layer, price, partial(view.error, name), block=block)
        return [(rank, error) for rank, error in _thin_out(every, MAX_RANKS_PER_METHOD) if quick(rank)]
    ranks = _thin_out(
        [rank for rank in ladder(method, layer, price, block=block) if quick(rank)], MAX_RANKS_PER_METHOD
    )
    return list(zip(ranks, _errors(method, view, ranks), strict=True))


def channel_candidates(site: Site, view: CalibratedLayer, block: int = RANK_BLOCK) -> list[Candidate]:
    """The layer with fewer of its input channels: it costs less, and so does what makes them."""
    layer, makers, method = view.layer, site.producers, CHANNELS
    full = layer.weight.shape[1]
    blocks = range(block, full, block)
    ranks = blocks[:: 1 + len(blocks) // MAX_RANKS_PER_METHOD]
    if makers is None or not ranks:
        return []
    found = []
    for rank, error in zip(ranks, view.error(method.name, ranks), strict=True):
        chain, gone = computed_part(method.name, view.sketch(method.name, rank)), (full - rank) * layer.groups
        found.append(
            Candidate(
                method=method.name,
                rank=rank,
                macs=macs(chain, site.calls) - round(gone * makers.macs),
                params=chain_params(chain) - round(gone * makers.params),
                error=error,
                damage=-log1p(-min(error**2, MAX_ENERGY_LOST)),
                whole=tuple(makers.layers),
            )
        )
    return found


def weighted_by_sensitivity(
    options: Mapping[str, Sequence[Candidate]], weight: Mapping[str, float]
) -> dict[str, list[Candidate]]:
    """The same candidates, their damage in units of the squared error at the model's outputs.

    weight: of each layer's own squared error, see `calibrate.sensitivity`. A layer that has none lost nothing
    that could be measured, and is taken to matter as the least of the others.
    """
    least = min(weight.values(), default=1.0)
    return {
        name: [replace(c, damage=weight.get(name, least) * c.error**2) for c in found]
        for name, found in options.items()
    }


def with_refit_gain(
    options: Mapping[str, Sequence[Candidate]], gains: Mapping[str, Mapping[str, float]]
) -> dict[str, list[Candidate]]:
    """The same candidates, their errors those that a fit leaves; gains: see `refit.gains`."""
    return {
        name: [replace(c, error=c.error * gains.get(name, {}).get(c.method or "", 1.0)) for c in found]
        for name, found in options.items()
    }


def trial_steps(options: Mapping[str, Sequence[Candidate]]) -> dict[str, PlanStep]:
    """For each layer the step with an own error near `TRIAL_ERROR`, by which its sensitivity is measured."""
    return {name: _nearest_to_trial_error(chains) for name, (_, *chains) in options.items() if chains}


def trial_fit_steps(options: Mapping[str, Sequence[Candidate]]) -> dict[str, list[PlanStep]]:
    """For each layer a step of every method that stands alone, with an error near `TRIAL_ERROR`."""
    found = {}
    for name, chains in options.items():
        methods = dict.fromkeys(c.method for c in chains if c.method and METHODS[c.method].alone)
        found[name] = [
            _nearest_to_trial_error([c for c in chains if c.method == method]) for method in methods
        ]
    return {name: steps for name, steps in found.items() if steps}


def _nearest_to_trial_error(chains: Sequence[Candidate]) -> PlanStep:
    near = min(chains, key=lambda c: abs(c.error - TRIAL_ERROR))
    return PlanStep(method=near.method or "svd", rank=near.rank or 1)


def _errors(method: Method[Any], view: CalibratedLayer, ranks: Sequence[int]) -> list[float]:
    """Predicted error at each rank; interpolated over its logarithm where every rank is a run of its own."""
    if method.one_pass or len(ranks) <= MAX_COSTLY_RANKS:
        return view.error(method.name, ranks) if ranks else []
    knots = _thin_out(ranks, MAX_COSTLY_RANKS)
    return [float(e) for e in np.interp(np.log(ranks), np.log(knots), view.error(method.name, knots))]


def sketch_edit(site: Site, step: PlanStep) -> FactorizationEdit:
    """What a step would do, told without doing it: costs and predicted error of the weight."""
    layer, method = site.layer, METHODS[step.method]
    chain = method.sketch(layer, step.rank)
    return edit_for(site, layer, step, chain, method.error(layer, [step.rank])[0])


def _decide_each(sites: Iterable[Site], step: Callable[[Site], PlanStep]) -> Decision:
    """Ask `step` for every site: a `PlanStep`, or UnsupportedLayer with the reason to leave it alone."""
    steps, kept = {}, []
    for site in sites:
        try:
            steps[site.name] = step(site)
        except UnsupportedLayer as reason:
            kept.append(FactorizationEdit(layer=site.name, skipped=str(reason)))
    return Decision(plan=Plan(steps), kept=kept)


def _step_for_rank(site: Site, rank: int, methods: Sequence[str]) -> PlanStep:
    layer, price = site.layer, _price(site, "macs")
    whole = price([layer])
    methods = suited(layer, methods)
    for name in methods:
        if price(METHODS[name].sketch(layer, rank)) < whole:
            return PlanStep(method=name, rank=METHODS[name].clip(layer, rank))
    pays = {name: break_even(METHODS[name], layer, price) for name in methods}
    told = ", ".join(f"{name} up to {most}" for name, most in pays.items() if most) or "no rank does"
    raise UnsupportedLayer(f"rank {rank} costs no less than the layer; what pays: {told}")


def _step_for_energy(site: Site, energy: float, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _price(site, "macs")
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
    return ladder(method, layer, price, block=block)


def _step_for_spectrum(site: Site, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _price(site, "macs")
    whole = price([layer])
    for name in suited(layer, methods):
        method = METHODS[name]
        rank = for_spectrum(method, layer, block=block) if method.spectral else None
        if rank is not None and price(method.sketch(layer, rank)) < whole:
            return PlanStep(method=name, rank=rank)
    raise UnsupportedLayer("no rank that its spectrum suggests (evbmf) costs less than the layer")


def _step_for_share(site: Site, most: float, methods: Sequence[str], block: int) -> PlanStep:
    layer, price = site.layer, _price(site, "macs")
    ranks = {
        name: for_share(METHODS[name], layer, most, price, block=block) for name in suited(layer, methods)
    }
    errors = {name: METHODS[name].error(layer, [rank])[0] for name, rank in ranks.items() if rank}
    if not errors:
        raise UnsupportedLayer(f"no rank leaves {most:.1%} of the layer's MACs or fewer")
    best = min(errors, key=lambda name: errors[name])
    return PlanStep(method=best, rank=METHODS[best].clip(layer, ranks[best] or 1))


def _price(site: Site, resource: Resource) -> Price:
    return chain_params if resource == "params" else partial(_site_macs, site)


def _site_macs(site: Site, chain: Sequence[Layer]) -> int:
    return macs(chain, site.calls)


def _candidate_price(resource: Resource) -> Cost:
    prices: dict[Resource, Cost] = {
        "macs": lambda c: c.macs,
        "params": lambda c: c.params,
        "milliseconds": lambda c: c.milliseconds or 0.0,
    }
    return prices[resource]


def _thin_out(ranks: Sequence[T], most: int) -> list[T]:
    """At most that many of the ranks, in order, spread evenly on a logarithmic scale, both ends kept."""
    if len(ranks) <= most:
        return list(ranks)
    last = len(ranks) - 1
    places = {round(len(ranks) ** (i / (most - 1))) - 1 for i in range(most)}
    return [ranks[p] for p in sorted(places | {0, last})]
