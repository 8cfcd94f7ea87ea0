"""Carry out a plan: replace the layer at every site that it names, and return an edit for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.factorize import METHODS, compose, relative_error
from modelsurgeon.layers import Layer, chain_macs, chain_params
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import Call, Site


class Replacement(NamedTuple):
    """A chain for a layer. output_error: relative error of its outputs on validation samples, if measured."""

    chain: Sequence[Layer]
    output_error: float | None = None


Factorization = Callable[[Site, PlanStep], Replacement]


def macs(chain: Sequence[Layer], calls: Sequence[Call]) -> int:
    """MACs of a chain over all its calls."""
    return sum(chain_macs(chain, size, positions) for size, positions in calls)


def computed_part(method: str, chain: Sequence[Layer]) -> Sequence[Layer]:
    """The part of a method's chain that is computed: selecting channels costs nothing."""
    return chain if METHODS[method].alone else chain[1:]


def factorize_weight(site: Site, step: PlanStep) -> Replacement:
    """The chain that a step makes of the layer's weight alone. Raises UnsupportedLayer."""
    return Replacement(METHODS[step.method](site.layer, step.rank))


def apply_plan(
    plan: Plan, sites: Sequence[Site], factorize: Factorization = factorize_weight
) -> list[FactorizationEdit]:
    """Replace the layer at every site that the plan names; one edit per step, in the order of the sites.

    A step is carried out even where its chain costs more than the layer; its edit shows both costs.
    factorize: the chain of a step. Raises BadPlan for a layer that no site has.
    """
    known = {site.name: site for site in sites}
    if missing := [name for name in plan if name not in known]:
        raise BadPlan(
            f"layer {missing[0]!r} can't be replaced in this model: it has no such layer, or it is skipped"
        )
    return [apply_step(site, plan[site.name], factorize) for site in sites if site.name in plan]


def apply_step(site: Site, step: PlanStep, factorize: Factorization) -> FactorizationEdit:
    """Replace the layer at one site; the edit, or why the layer is skipped where factorizing raises it."""
    layer = site.layer
    try:
        chain, output_error = factorize(site, step)
    except UnsupportedLayer as error:
        return FactorizationEdit(layer=site.name, method=step.method, rank=step.rank, skipped=str(error))
    install(site, step, chain)
    return edit_for(site, layer, step, chain, relative_error(layer, chain), output_error)


def install(site: Site, step: PlanStep, chain: Sequence[Layer]) -> None:
    """Put a chain in the place of the site's layer.

    A selection of channels becomes one layer whose weights for the channels left out are zero.
    """
    site.replace(chain if METHODS[step.method].alone else [compose(chain)])


def edit_for(
    site: Site,
    layer: Layer,
    step: PlanStep,
    chain: Sequence[Layer],
    error: float,
    output_error: float | None = None,
) -> FactorizationEdit:
    """The edit for `chain` in the place of `layer`. error: relative error of the weight (Frobenius)."""
    return FactorizationEdit(
        layer=site.name,
        method=step.method,
        rank=METHODS[step.method].clip(layer, step.rank),
        macs_before=macs([layer], site.calls),
        macs_after=macs(computed_part(step.method, chain), site.calls),
        params_before=layer.params + site.extra_params,
        params_after=chain_params(computed_part(step.method, chain)),
        error=error,
        output_error=output_error,
    )
