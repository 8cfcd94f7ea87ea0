"""Plans carried out: the chain of every step put at its site, and an edit for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.factorize import METHODS, compose, relative_error
from modelsurgeon.layers import Layer, chain_macs, chain_params
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import Call, Site


def macs(chain: Sequence[Layer], calls: Sequence[Call]) -> int:
    """MACs of a chain over all its calls."""
    return sum(chain_macs(chain, size, positions) for size, positions in calls)


def computed_part(method: str, chain: Sequence[Layer]) -> Sequence[Layer]:
    """The part of a method's chain that is computed: a selection of channels costs nothing."""
    return chain if METHODS[method].alone else chain[1:]


def factorize_step(site: Site, step: PlanStep) -> list[Layer]:
    """The factors of the layer's weight alone."""
    return METHODS[step.method](site.layer, step.rank)


def apply(
    plan: Plan, sites: Sequence[Site], chain: Callable[[Site, PlanStep], list[Layer]] = factorize_step
) -> list[FactorizationEdit]:
    """Do what the plan says at every site it names; one edit a step, in the order of the sites.

    A plan is an order: a step is carried out even where its chain costs more than the layer, and its edit
    shows both costs. chain: what a step puts at a site. Raises BadPlan for a layer that no site has.
    """
    known = {site.name: site for site in sites}
    if odd := [name for name in plan if name not in known]:
        raise BadPlan(
            f"layer {odd[0]!r} can't be replaced in this model: it has no such layer, or it is skipped"
        )
    return [_replace(site, plan[site.name], chain) for site in sites if site.name in plan]


def _replace(site: Site, step: PlanStep, chain: Callable[[Site, PlanStep], list[Layer]]) -> FactorizationEdit:
    layer = site.layer
    try:
        links = chain(site, step)
    except UnsupportedLayer as error:
        return FactorizationEdit(layer=site.name, method=step.method, rank=step.rank, skipped=str(error))
    install(site, step, links)
    return edit_for(site, layer, step, links, relative_error(layer, links))


def install(site: Site, step: PlanStep, chain: Sequence[Layer]) -> None:
    """Put a chain in place. A selection of channels is no layer: those left out get weights of zero."""
    site.replace(chain if METHODS[step.method].alone else [compose(chain)])


def edit_for(
    site: Site, layer: Layer, step: PlanStep, chain: Sequence[Layer], error: float
) -> FactorizationEdit:
    """The edit that puts `chain` in the place of `layer`; error: of the weight, relative."""
    return FactorizationEdit(
        layer=site.name,
        method=step.method,
        rank=METHODS[step.method].clip(layer, step.rank),
        macs_before=macs([layer], site.calls),
        macs_after=macs(computed_part(step.method, chain), site.calls),
        params_before=layer.params + site.extra_params,
        params_after=chain_params(computed_part(step.method, chain)),
        error=error,
    )
