"""Static answers about models, whatever a caller calls one: `info`, `check` and `diff`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelsurgeon.api.models import Model
    from modelsurgeon.inspection.analysis import Analysis
    from modelsurgeon.inspection.difference import Difference
    from modelsurgeon.inspection.findings import Report
    from modelsurgeon.progress import Progress
from modelsurgeon.api.models import Dims, Shapes, graph
from modelsurgeon.api.samples import feeds


def info(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    memory: bool = False,
    training: bool = False,
    weights: bool = False,
    data: Any = None,  # noqa: ANN401 - see data.batches
    samples: int | None = None,
    batch: int | None = None,
    provider: str = "cpu",
    spend: bool = False,
    watch: Progress | None = None,
) -> Analysis:
    """What the model is made of and what it costs; it is run only where there is data.

    shapes: input name -> sizes. dims: symbol -> size. Symbols that stay open make formulas, with their value
    at stated defaults beside them. memory: also tell which activations live when. training: also what it
    takes to train it. weights: read the weights, too, one at a time, and tell their ranges, channels and
    spectra. data: whatever `data.batches` takes; run the model on it, on at most so many samples, and tell
    the ranges of its activations. batch: samples a feed, where the model leaves that open. spend: a graph may
    be changed, as nobody needs it any more; that is quicker. watch: told how much is done. Raises BadModel,
    UnknownShape, BadData and Unavailable.
    """
    from modelsurgeon.onnx.info import analyze

    opened = graph(model, shapes=shapes)
    spent = _may_consume(model, spend=spend) and data is None and not weights
    found = analyze(opened, shapes=shapes, dims=dims, memory=memory, training=training, spend=spent)
    if weights:
        from modelsurgeon.onnx.analysis.weight_statistics import collect_weight_statistics

        measured = collect_weight_statistics(
            opened, shapes=shapes, dims={**(dims or {}), **found.defaults}, watch=watch
        )
        found = found.with_section("weights", measured)
    if data is not None:
        from modelsurgeon.onnx.analysis.activation_statistics import collect_activation_statistics

        given, _ = feeds(opened, data, samples=samples, batch=batch)
        found = found.with_section(
            "activations", collect_activation_statistics(opened, given, provider=provider, watch=watch)
        )
    return found


def check(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    weights: bool = False,
    balance: float | None = None,
    spend: bool = False,
) -> Report:
    """What is wrong with the model or stands out in it, each with its rule, evidence and advice.

    shapes, dims: sizes that the model leaves open. select, ignore: ids of rules, all of docs/rules.md where
    none is selected; `rule:glob` ignores it for layers of such names. weights: whether to ask the rules that
    read weights. balance: FLOPs for each byte that the machine does, 10 where it isn't told. spend: a graph
    may be changed, as nobody needs it any more. Raises BadModel, UnknownShape, and ValueError for a rule that
    there isn't.
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


def diff(
    a: Model, b: Model, *, shapes: Shapes | None = None, dims: Dims | None = None, weights: bool = True
) -> Difference:
    """What differs between two models, layer by layer, without running them.

    Layers are matched by name, then by what they are and where they stand. shapes, dims: as `info` takes
    them. weights: read them, to tell which are equal. Raises BadModel and UnknownShape.
    """
    from modelsurgeon.onnx.diff import diff as compare_graphs

    return compare_graphs(
        graph(a, shapes=shapes), graph(b, shapes=shapes), shapes=shapes, dims=dims, weights=weights
    )


def _may_consume(model: Model, *, spend: bool) -> bool:
    """Whether the graph of a model is nobody's: given away, or read from a file for this call alone."""
    return spend or isinstance(model, str | Path)
