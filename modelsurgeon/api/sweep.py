"""The same net at several budgets: what is known of its layers is learned once, and every cut is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from modelsurgeon.api import models
from modelsurgeon.api.compress import carry_out, dry_run_result
from modelsurgeon.api.devices import on_device
from modelsurgeon.api.operation import record, source
from modelsurgeon.api.preparation import AUTO, open_model, prepare
from modelsurgeon.compression.frontier import Frontier, FrontierPoint
from modelsurgeon.compression.planner import budgets
from modelsurgeon.compression.result import Result
from modelsurgeon.errors import SurgeryError
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.progress import Progress


@on_device
def sweep(
    model: Any,  # noqa: ANN401 - as for `compress`
    fractions: Sequence[float],
    *,
    of: Literal["macs", "params"] = "macs",
    method: str = AUTO,
    data: Any = None,  # noqa: ANN401 - see data.batches
    refit: bool = True,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    compare: bool = True,
    dry_run: bool = False,
    block: int = RANK_BLOCK,
    batch: int | None = None,
    provider: str = "cpu",
    device: str = "cpu",  # noqa: ARG001 - `on_device` reads it
    watch: Progress | None = None,
) -> Frontier:
    """Compress a model to several fractions of its MACs or params, and tell what each of them costs.

    Every point is what `compress` gives for its fraction; samples are watched, layers tried and candidates
    found only once. The caller's model, a module too, is left as it is: each result has one of its own.
    fractions: kept of the original's, each above 0 and at most 1, no two alike. of: of what. The other
    arguments are those of `compress`. Raises ValueError, and what `compress` raises: nothing, then, is had.
    """
    check_fractions(fractions)
    runs = compare and (data is not None or not dry_run)
    editable = open_model(
        model, data=data, shapes=shapes, batch=batch, dims=dims, provider=provider, runs=runs
    )
    study = prepare(
        editable,
        method=method,
        only=only,
        skip=skip,
        refit=refit,
        seed=seed,
        runs=runs,
        watch=watch,
        block=block,
    )
    at, _ = budgets(study, of)
    decisions = {fraction: at(fraction) for fraction in fractions}  # all, before the first takes its time

    def result(fraction: float) -> Result:
        if dry_run:
            return dry_run_result(study, decisions[fraction])
        return carry_out(study, decisions[fraction], study.model.fresh_copy(), tolerance)

    points = [
        FrontierPoint(fraction=fraction, result=_with_fraction(fraction, of, result))
        for fraction in fractions
    ]
    if not (dry_run or models.is_module(model)):
        asked = {
            "method": method if method != AUTO else None,
            "only": list(only),
            "skip": list(skip),
            "block": block if block != RANK_BLOCK else None,
        }
        told = {name: value for name, value in asked.items() if value}
        for point in points:
            arguments = {of: point.fraction, **told}
            record(point.result.model, "compress", arguments, source(model), point.result.comparison)
    return Frontier(of=of, points=points)


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse no fraction, two that are alike, and one out of range."""
    if not fractions:
        raise ValueError("a sweep without fractions: give those that are to be kept, such as 0.75 and 0.5")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"{fraction} is no fraction above 0 and at most 1")
        if fractions.count(fraction) > 1:
            raise ValueError(f"{fraction:g} is asked for twice")


def _with_fraction(
    fraction: float, of: Literal["macs", "params"], result: Callable[[float], Result]
) -> Result:
    """The result, or its problem with the point that it arose at."""
    try:
        return result(fraction)
    except SurgeryError as problem:
        raise type(problem)(f"at {fraction:g} of the {of}: {problem}") from problem
