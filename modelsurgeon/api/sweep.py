"""One model compressed to several budgets: it is calibrated once, and every result is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

from modelsurgeon.api import models
from modelsurgeon.api.compress import carry_out, dry_run_result
from modelsurgeon.api.devices import on_device
from modelsurgeon.api.operation import record, source
from modelsurgeon.api.options import CompressionOptions
from modelsurgeon.api.preparation import chosen_options, prepare
from modelsurgeon.arguments import checked
from modelsurgeon.comparison import gate
from modelsurgeon.compression.frontier import Frontier, FrontierPoint
from modelsurgeon.compression.planner import budgets
from modelsurgeon.compression.result import Result
from modelsurgeon.errors import BadArgument, SurgeryError


@checked
@on_device
def sweep(
    model: Any,  # noqa: ANN401 - as for `compress`
    fractions: Sequence[float],
    *,
    of: Literal["macs", "params"] = "macs",
    **options: Unpack[CompressionOptions],
) -> Frontier:
    """Compress a model to several fractions of its MACs or params, and compare every result.

    Every point is what `compress` gives for its fraction; samples are run, layers tried and candidates found
    only once. The caller's model, a module too, is left as it is: each result has a model of its own.

    fractions: to keep, each above 0 and at most 1, no two alike. of: what they are fractions of. The other
    keywords are those of `compress`. Raises BadArgument for fractions out of range, and what `compress`
    raises, with the fraction that it arose at: there is no result then.
    """
    check_fractions(fractions)
    gate.check_compares(options.get("tolerance"), compares=options.get("compare", True))
    _, study = prepare("sweep", model, options)
    at, _ = budgets(study, of)
    decisions = {fraction: at(fraction) for fraction in fractions}  # all, before the first takes its time

    def result(fraction: float) -> Result:
        if options.get("dry_run", False):
            return dry_run_result(study, decisions[fraction])
        return carry_out(study, decisions[fraction], study.model.fresh_copy(), options.get("tolerance"))

    points = [FrontierPoint(fraction=each, result=_with_fraction(each, of, result)) for each in fractions]
    if not (options.get("dry_run", False) or models.is_module(model)):
        for point in points:
            arguments = {of: point.fraction, **chosen_options(options)}
            record(point.result.model, "compress", arguments, source(model), point.result.comparison)
    return Frontier(of=of, points=points)


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise BadArgument for no fraction, two that are alike, and one out of range."""
    if not fractions:
        raise BadArgument("a sweep without fractions: give those that are to be kept, such as 0.75 and 0.5")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise BadArgument(f"{fraction} is no fraction above 0 and at most 1")
        if fractions.count(fraction) > 1:
            raise BadArgument(f"{fraction:g} is asked for twice")


def _with_fraction(
    fraction: float, of: Literal["macs", "params"], result: Callable[[float], Result]
) -> Result:
    """The result; a problem is raised with the fraction that it arose at."""
    try:
        return result(fraction)
    except SurgeryError as problem:
        raise type(problem)(f"at {fraction:g} of the {of}: {problem}") from problem
