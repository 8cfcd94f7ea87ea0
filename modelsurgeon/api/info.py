"""Static answers about models, whatever a caller calls one: `info`, `check` and `diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from modelsurgeon.api.models import Dims, Shapes, graph
from modelsurgeon.api.samples import feeds
from modelsurgeon.arguments import Count, Interval, checked

if TYPE_CHECKING:
    from modelsurgeon.api.models import Model
    from modelsurgeon.inspection.analysis import Analysis
    from modelsurgeon.inspection.difference import Difference
    from modelsurgeon.inspection.findings import Report
    from modelsurgeon.progress import Progress


@checked
def info(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    memory: bool = False,
    training: bool = False,
    weights: bool = False,
    data: Any = None,  # noqa: ANN401 - see data.batches
    samples: Count | None = None,
    batch: Count | None = None,
    skip_bad: bool = False,
    provider: str = "cpu",
    spend: bool = False,
    watch: Progress | None = None,
) -> Analysis:
    """Layers and costs of a model: MACs, FLOPs, params, bytes of weights and activations.

    Static: the model is run only if there is data. See `info --definitions` for what each number counts.

    shapes: input name -> sizes. dims: symbol -> size. Symbols that stay open make formulas, given with their
    values at stated defaults. memory: add which activations are alive at each node, in bytes. training: add
    the bytes that training takes. weights: add ranges, channels and spectra of the weights, read one at a
    time. data: whatever `data.batches` takes; add the ranges of the activations on it. samples: at most so
    many of data. batch: samples per feed, where the model leaves that open. skip_bad: leave
    out samples with NaN or infinite values instead of raising. provider: where the model runs.
    spend: the caller needs the graph no more, so it may be changed in place, which is faster. watch: called
    with the progress. Raises BadModel, UnknownShape, BadData, and Unavailable for a missing provider.
    """
    from modelsurgeon.onnx.info import analyze

    opened = graph(model, shapes=shapes)
    consume = _may_consume(model, spend=spend) and data is None and not weights
    found = analyze(opened, shapes=shapes, dims=dims, memory=memory, training=training, spend=consume)
    if weights:
        from modelsurgeon.onnx.analysis.statistics.weight_statistics import collect_weight_statistics

        measured = collect_weight_statistics(
            opened, shapes=shapes, dims={**(dims or {}), **found.defaults}, watch=watch
        )
        found = found.with_section("weights", measured)
    if data is not None:
        from modelsurgeon.onnx.analysis.statistics.activation_statistics import collect_activation_statistics

        given, notes = feeds(opened, data, samples=samples, batch=batch, skip_bad=skip_bad)
        found = found.with_section(
            "activations", collect_activation_statistics(opened, given, provider=provider, watch=watch)
        )
        found = replace(found, notes=[*found.notes, *notes])
    return found


@checked
def check(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    weights: bool = False,
    balance: Annotated[float, Interval(0, above=True)] | None = None,
    spend: bool = False,
) -> Report:
    """Findings about a model, each with its rule, evidence and advice, by severity.

    shapes, dims: sizes that the model leaves open. select, ignore: ids of rules, all of docs/rules.md where
    none is selected; `rule:glob` ignores a rule for layers of such names. weights: also apply the rules that
    read weights. balance: FLOPs per byte of memory traffic that the machine does, 10 by default. spend: the
    caller needs the graph no more, so it may be changed in place. Raises BadModel, UnknownShape, and
    BadArgument for an unknown rule.
    """
    from modelsurgeon.onnx.check import check as check_graph
    from modelsurgeon.onnx.lint import DEFAULT_BALANCE

    return check_graph(
        graph(model, shapes=shapes),
        shapes=shapes,
        dims=dims,
        select=select,
        ignore=ignore,
        weights=weights,
        balance=DEFAULT_BALANCE if balance is None else balance,
        spend=_may_consume(model, spend=spend),
    )


@checked
def diff(
    a: Model, b: Model, *, shapes: Shapes | None = None, dims: Dims | None = None, weights: bool = True
) -> Difference:
    """Differences between two models, layer by layer, without running them.

    Layers are matched by name, then by operator, shapes and order. shapes, dims: sizes that the models leave
    open. weights: read the weights, to see which are equal. Raises BadModel and UnknownShape.
    """
    from modelsurgeon.onnx.diff import diff as compare_graphs

    return compare_graphs(
        graph(a, shapes=shapes), graph(b, shapes=shapes), shapes=shapes, dims=dims, weights=weights
    )


def _may_consume(model: Model, *, spend: bool) -> bool:
    """Whether the graph may be changed in place: given away, or read from a file for this call alone."""
    return spend or isinstance(model, str | Path)
