"""The candidates of every layer, and the choice among them that meets a budget for the whole model.

Every layer that the choice leaves as it is gets an edit with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import log1p
from typing import Any, Literal, TypeVar

import numpy as np

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.sensitivity import Calibration
from modelsurgeon.compression.latency_model import likely_faster
from modelsurgeon.compression.select import Candidate, Cost, cheapest, select
from modelsurgeon.errors import Unreachable, UnsupportedLayer
from modelsurgeon.factorize import METHODS, Method, Rank, suited
from modelsurgeon.factorize.channel_selection import CHANNELS
from modelsurgeon.factorize.rank import RANK_BLOCK, Price, candidate_ranks, frontier
from modelsurgeon.layers import Layer, chain_params
from modelsurgeon.surgery.apply import computed_part, edit_for, macs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import Site

T = TypeVar("T")
Resource = Literal["macs", "params", "milliseconds"]
MAX_RANKS_PER_METHOD = 24  # ranks tried per layer and method
MAX_COSTLY_RANKS = 4  # of those, decomposed by methods that need a run for each rank
MAX_ENERGY_LOST = 1 - 1e-9  # of a weight's energy: losing all of it would be infinite damage
MAX_UNUSED_BUDGET = 0.1  # share of a budget that a choice may leave unused without a note
TRIAL_ERROR = 0.3  # relative error of a trial: more than few samples leave uncertain, and less than all


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A plan, and edits with the reason for the layers that it skips.

    firm: the plan is carried out however slow it is. errors: relative error of the outputs of each layer if
    it alone is cut, where the choice was made by it. options: the candidates that the choice was made from.
    notes: sentences for the report.
    """

    plan: Plan
    skipped: Sequence[FactorizationEdit] = field(default=())
    firm: bool = False
    errors: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Sequence[Candidate]] = field(default_factory=dict, repr=False)
    notes: Sequence[str] = ()


def plan_by_budget(
    options: Mapping[str, Sequence[Candidate]], fraction: float, total: float, resource: Resource
) -> Decision:
    """The least damage with `fraction` of the model's `total` MACs, params or milliseconds left.

    options: from `candidates_by_site`. Raises Unreachable where even the cheapest candidates leave more.
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
    skipped = [
        FactorizationEdit(layer=name, skipped="the budget is met with less damage elsewhere")
        for name, found in options.items()
        if name not in steps
        and not any(name in c.also_changes for c in chosen.values())
        and not _is_shared_input(found)
    ]
    left = (_untouched_cost(options, total, price) + sum(map(price, chosen.values()))) / total
    return Decision(
        plan=Plan(steps),
        skipped=skipped,
        errors={name: chosen[name].error for name in steps},
        notes=_below_budget(left, fraction, resource),
    )


def _below_budget(left: float, asked: float, resource: Resource) -> list[str]:
    """A note where much less is left than was asked for."""
    if left >= asked * (1 - MAX_UNUSED_BUDGET):
        return []
    return [
        f"{left:.3f} of the {resource} are left where {asked:g} was asked for: "
        "no choice of ranks between the two promises a smaller error"
    ]


def least_fraction(options: Mapping[str, Sequence[Candidate]], total: float, resource: Resource) -> float:
    """The smallest fraction of the model's `total` that any choice leaves."""
    price = _candidate_price(resource)
    return (
        _untouched_cost(options, total, price) + sum(map(price, cheapest(options, price).values()))
    ) / total


def _untouched_cost(options: Mapping[str, Sequence[Candidate]], total: float, price: Cost) -> float:
    """Cost of the rest of the model, which no candidate changes."""
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
            found[site.name] = site_candidates(site, calibration.layer(site), methods, resource, block=block)
        except UnsupportedLayer as reason:
            broken.append(FactorizationEdit(layer=site.name, skipped=str(reason)))
    return found, broken


def site_candidates(
    site: Site,
    calibrated: CalibratedLayer,
    methods: Sequence[str],
    resource: Resource,
    *,
    block: int = RANK_BLOCK,
) -> list[Candidate]:
    """The layer as it is, and every chain worth trying that costs less of the resource and no more MACs.

    Unless milliseconds are the resource, which are measured later, only chains that are expected to be
    faster than the layer are candidates, see `latency_model.pays`. Damage is minus the logarithm of the
    energy that a layer keeps: over the layers of a model kept energies multiply, so damages add up.
    """
    layer = calibrated.layer
    dense = Candidate(macs=macs([layer], site.calls), params=layer.params + site.extra_params)
    found = [dense, *(channel_candidates(site, calibrated, block) if CHANNELS.name in methods else ())]
    for name in suited(layer, methods):
        for rank, error in _ranks_with_errors(site, calibrated, name, resource, block):
            chain = calibrated.sketch(name, rank)
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
    return _shared_input_candidates(found, site.members) if site.members else found


def _shared_input_candidates(found: Sequence[Candidate], members: Sequence[str]) -> list[Candidate]:
    """The candidates of a shared-input site, their costs relative to those of its members as they are."""
    dense = found[0]
    return [
        replace(
            c,
            macs=c.macs - dense.macs,
            params=c.params - dense.params,
            damage=c.damage * len(members),
            also_changes=tuple(members) if c.method else (),
        )
        for c in found
    ]


def _is_shared_input(found: Sequence[Candidate]) -> bool:
    """Whether these are candidates of a shared-input site: as it is, it costs nothing besides its members."""
    return not found[0].params


def _ranks_with_errors(
    site: Site, calibrated: CalibratedLayer, name: str, resource: Resource, block: int
) -> list[tuple[Rank, float]]:
    """Ranks of a method that are worth trying, with their errors; of pairs, the Pareto frontier."""
    method, layer, price = METHODS[name], calibrated.layer, _price(site, resource)

    def quick(rank: Rank) -> bool:
        return resource == "milliseconds" or likely_faster(layer, calibrated.sketch(name, rank), site.calls)

    if isinstance(method.full_rank(layer), tuple):
        every = frontier(method, layer, price, partial(calibrated.error, name), block=block)
        return [(rank, error) for rank, error in _thin_out(every, MAX_RANKS_PER_METHOD) if quick(rank)]
    ranks = _thin_out(
        [rank for rank in candidate_ranks(method, layer, price, block=block) if quick(rank)],
        MAX_RANKS_PER_METHOD,
    )
    return list(zip(ranks, _errors(method, calibrated, ranks), strict=True))


def channel_candidates(site: Site, calibrated: CalibratedLayer, block: int = RANK_BLOCK) -> list[Candidate]:
    """The layer with fewer input channels: it costs less, and so do the layers that produce them."""
    layer, producers, method = calibrated.layer, site.producers, CHANNELS
    full = layer.weight.shape[1]
    blocks = range(block, full, block)
    ranks = blocks[:: 1 + len(blocks) // MAX_RANKS_PER_METHOD]
    if producers is None or not ranks:
        return []
    found = []
    for rank, error in zip(ranks, calibrated.error(method.name, ranks), strict=True):
        chain = computed_part(method.name, calibrated.sketch(method.name, rank))
        removed = (full - rank) * layer.groups
        found.append(
            Candidate(
                method=method.name,
                rank=rank,
                macs=macs(chain, site.calls) - round(removed * producers.macs),
                params=chain_params(chain) - round(removed * producers.params),
                error=error,
                damage=-log1p(-min(error**2, MAX_ENERGY_LOST)),
                also_changes=tuple(producers.layers),
            )
        )
    return found


def weighted_by_sensitivity(
    options: Mapping[str, Sequence[Candidate]], weight: Mapping[str, float]
) -> dict[str, list[Candidate]]:
    """The same candidates, their damage in units of the squared relative error at the model's outputs.

    weight: by layer, see `sensitivity.sensitivity`. A layer without one lost nothing that could be measured:
    it gets the smallest weight of the others.
    """
    least = min(weight.values(), default=1.0)
    return {
        name: [replace(c, damage=weight.get(name, least) * c.error**2) for c in found]
        for name, found in options.items()
    }


def with_refit_gain(
    options: Mapping[str, Sequence[Candidate]], gains: Mapping[str, Mapping[str, float]]
) -> dict[str, list[Candidate]]:
    """The same candidates with the errors that a fit is expected to leave; gains: see `refit.refit_gains`."""
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


def _errors(method: Method[Any], calibrated: CalibratedLayer, ranks: Sequence[int]) -> list[float]:
    """Predicted error at each rank; interpolated over its logarithm where every rank is a run of its own."""
    if method.one_pass or len(ranks) <= MAX_COSTLY_RANKS:
        return calibrated.error(method.name, ranks) if ranks else []
    knots = _thin_out(ranks, MAX_COSTLY_RANKS)
    return [float(e) for e in np.interp(np.log(ranks), np.log(knots), calibrated.error(method.name, knots))]


def sketch_edit(site: Site, step: PlanStep) -> FactorizationEdit:
    """The edit that a step would make: costs and predicted error of the weight. Nothing is changed."""
    layer, method = site.layer, METHODS[step.method]
    chain = method.sketch(layer, step.rank)
    return edit_for(site, layer, step, chain, method.error(layer, [step.rank])[0])


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
    places = {round(len(ranks) ** (i / (most - 1))) - 1 for i in range(most)}
    return [ranks[p] for p in sorted(places)]
