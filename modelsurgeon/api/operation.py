"""The steps around every surgery verb: load, copy, pass, comparison, gate, history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelsurgeon.api import models, samples
from modelsurgeon.api.options import SurgeryOptions, reject_unknown
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.comparison.compare import compare as compare_runs
from modelsurgeon.data import Batches, split
from modelsurgeon.errors import ToleranceExceeded, UnknownShape
from modelsurgeon.surgery.edits import Edit, exclusion_reason, tables

if TYPE_CHECKING:
    import onnx_ir as ir
    from rich.console import RenderableType
    from torch import nn

    from modelsurgeon.comparison.compare import Run
    from modelsurgeon.onnx.passes.context import Pass, PassContext
    from modelsurgeon.report.table import Table


# Relative L2 that exact surgery may cost in half precision, ten steps of the type: weights are rounded anew.
HALF_PRECISION_TOLERANCE = {"FLOAT16": 1e-2, "BFLOAT16": 8e-2}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The result of a surgery verb: the edited model, an edit per layer, and how its outputs compare.

    model: an ir.Model, or the caller's nn.Module, edited in place. comparison: None if nothing was compared.
    """

    verb: str
    model: Any
    edits: Sequence[Edit]
    comparison: Comparison | None
    notes: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The operation as plain JSON data."""
        return {
            "edits": [edit.as_dict() for edit in self.edits],
            "comparison": None if self.comparison is None else self.comparison.as_dict(),
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """Edits, layers left alone, and the comparison."""
        compared = [] if self.comparison is None else self.comparison.tables()
        return tables(self.edits, self.notes) + compared

    def __rich__(self) -> RenderableType:
        """All tables, for a terminal."""
        from modelsurgeon.report.text_layout import stacked

        return stacked(self.tables())


def operate(
    model: models.Model,
    verb: str,
    work: Pass,
    options: SurgeryOptions,
    *,
    exact: bool,
    arguments: Mapping[str, Any] | None = None,
    learns: bool = False,
    vectors: bool = False,
    cut: bool = False,
) -> Operation:
    """Run a pass on a copy of the model, compare the outputs, and write a line of history.

    verb, arguments: for the history; no paths in them. exact: outputs must be equal up to EXACT_TOLERANCE
    (relative L2) or to within the model's own noise; otherwise only a given tolerance is a gate. learns: the
    pass needs samples; a quarter of them is held out for the comparison. vectors: outputs that have become
    maps of one position are compared as the vectors that they were. cut: inputs and outputs are chosen anew;
    otherwise they stay, see `onnx.declarations`. Raises ToleranceExceeded, TypeError for
    an unknown option, and what the pass and loading the model raise.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from modelsurgeon.onnx.declarations import restore_declarations

    reject_unknown(verb, options, SurgeryOptions)
    original = models.graph(model, shapes=options.get("shapes"))
    given = model if isinstance(model, str | Path) else original
    compares = options.get("compare", True)
    feeds, notes = _feeds(original, options) if learns or compares else (None, ["not compared"])
    learned, held_out = split(feeds) if learns and feeds is not None else (None, feeds)
    context = pass_context(original, options, learned)
    measured = None if context.given or context.dims else context.measured  # the passes need it, too
    edits = work(context)
    if any(edit.skipped is None for edit in edits):
        RemoveUnusedNodesPass()(context.model)
    restore_declarations(context.model, original, measured=measured, cut=cut)
    comparison = None
    if compares and held_out is not None:
        intended = [] if exact else [f"{verb} is meant to change the outputs"]
        about = [*intended, *notes]
        comparison = _compare(original, context.model, held_out, options, about, vectors=vectors)
        _check_gate(verb, comparison, exact=exact, tolerance=options.get("tolerance"))
    recorded = _history_arguments(options) | dict(arguments or {})
    record(context.model, verb, recorded, source(given), comparison)
    return _result(verb, context.model, edits, comparison)


def operate_in_place(
    module: nn.Module,
    verb: str,
    work: Callable[[nn.Module, Batches, Callable[[str], str | None]], list[Edit]],
    options: SurgeryOptions,
    *,
    exact: bool,
    learns: bool = False,
) -> Operation:
    """As `operate`, for an nn.Module: it is edited itself once the gate has held on a copy of it.

    Raises UnknownShape where neither data nor shapes give the sizes of its inputs.
    """
    from modelsurgeon.torch.model import TorchModel

    reject_unknown(verb, options, SurgeryOptions)
    editable = TorchModel(module, data=options.get("data"), shapes=options.get("shapes"))
    feeds = editable.batches(options.get("seed", 0))
    if feeds is None:
        raise UnknownShape("a module fixes no input shapes: give data, or the shape of every input")
    learned, held_out = split(feeds) if learns else (feeds, feeds)

    def excluded(layer: str) -> str | None:
        return exclusion_reason(layer, options.get("only", ()), options.get("skip", ()))

    comparison = None
    if options.get("compare", True):
        trial = editable.fresh_copy()
        work(trial.finish(), learned, excluded)
        comparison = compare_runs(
            editable.runner(),
            trial.runner(),
            held_out,
            rerun_a=editable.runner(reference=True),
            tolerance=options.get("tolerance"),
        )
        _check_gate(verb, comparison, exact=exact, tolerance=options.get("tolerance"))
    return _result(verb, module, work(module, learned, excluded), comparison)


def _result(verb: str, model: Any, edits: Sequence[Edit], comparison: Comparison | None) -> Operation:  # noqa: ANN401
    notes = [] if comparison else ["not compared"]
    return Operation(verb=verb, model=model, edits=edits, comparison=comparison, notes=notes)


def record(
    edited: ir.Model,
    verb: str,
    arguments: Mapping[str, Any],
    source: str | Path | ir.Model,
    comparison: Comparison | None,
) -> None:
    """Write a line of history into a model. source: the file or graph that it was made from."""
    from modelsurgeon.onnx.io import history

    history.add(
        edited,
        history.HistoryRecord(
            verb=verb,
            arguments=arguments,
            input_sha256=history.digest(source),
            verdict=comparison.verdict if comparison else history.NOT_COMPARED,
        ),
    )


def pass_context(original: ir.Model, options: SurgeryOptions, batches: Batches | None) -> PassContext:
    """A graph to edit, with the caller's choices. Raises BadPlan for a glob that fits no layer."""
    from modelsurgeon.onnx.layers.sites import editable_copy
    from modelsurgeon.onnx.passes.context import PassContext

    context = PassContext(
        model=editable_copy(original),
        only=options.get("only", ()),
        skip=options.get("skip", ()),
        given=options.get("shapes"),
        dims=options.get("dims"),
        batches=batches,
        provider=options.get("provider", "cpu"),
    )
    context.check_globs()
    return context


def _feeds(model: ir.Model, options: SurgeryOptions) -> tuple[Batches, list[str]]:
    shapes, dims = options.get("shapes"), options.get("dims")
    return samples.feeds(model, options.get("data"), seed=options.get("seed", 0), shapes=shapes, dims=dims)


def _compare(
    original: ir.Model,
    edited: ir.Model,
    feeds: Batches,
    options: SurgeryOptions,
    notes: Sequence[str],
    *,
    vectors: bool = False,
) -> Comparison:
    """The edited model compared with the original, both as written: with onnxruntime's optimizations off.

    The inputs and outputs of a model that was cut out of the original are tensors inside the original.
    """
    from modelsurgeon.onnx.run import inputs, runner
    from modelsurgeon.onnx.run.noise_floor import other_execution

    provider = options.get("provider", "cpu")
    given = {each.name for each in inputs(original)}
    entries = [each.name for each in inputs(edited) if each.name not in given]
    asked = [str(value.name) for value in edited.graph.outputs]

    def asked_of(run: Run) -> Run:
        return lambda feed: {name: value for name, value in run(feed).items() if name in asked}

    if entries:
        enter = runner(original, outputs=entries, provider=provider, optimize=False)
        unfed = feeds
        feeds = replace(unfed, make=lambda: ({**feed, **enter(feed)} for feed in unfed))
    theirs = runner(edited, provider=provider, optimize=False)
    return compare_runs(
        asked_of(runner(original, outputs=asked, provider=provider, optimize=False)),
        _as_vectors(theirs, original) if vectors else theirs,
        feeds,
        rerun_a=asked_of(other_execution(original, outputs=asked, provider=provider, optimize=False)),
        tolerance=_tolerance(original, options),
        providers=(provider, provider),
        notes=notes,
    )


def _as_vectors(run: Run, original: ir.Model) -> Run:
    """Outputs (N, C, 1, 1) as (N, C), where the original gives vectors."""
    from modelsurgeon.onnx.shapes import bound

    given = bound(original).graph.outputs
    flat = {value.name for value in given if value.shape is None or value.shape.rank() == 2}

    def vector(name: str, value: Any) -> Any:  # noqa: ANN401 - an array, or what a sequence holds
        point = name in flat and getattr(value, "ndim", 0) > 2 and set(value.shape[2:]) == {1}
        return value.reshape(value.shape[:2]) if point else value

    return lambda feed: {name: vector(name, value) for name, value in run(feed).items()}


def _tolerance(model: ir.Model, options: SurgeryOptions) -> float | None:
    """The caller's tolerance, or what rounding weights to half precision makes necessary, else None."""
    if (given := options.get("tolerance")) is not None:
        return given
    found = {str(value.dtype) for value in model.graph.initializers.values()}
    return max(
        (HALF_PRECISION_TOLERANCE[name] for name in found & HALF_PRECISION_TOLERANCE.keys()), default=None
    )


def _check_gate(verb: str, comparison: Comparison, *, exact: bool, tolerance: float | None) -> None:
    if comparison.verdict == "different" and (exact or tolerance is not None):
        raise ToleranceExceeded(
            f"{verb} changed the outputs: their relative L2 error is {comparison.worst:.3g}, at most "
            f"{comparison.tolerance:g} was allowed: leave layers out (--skip), or allow more (--tolerance)"
        )


def source(model: models.Model) -> str | Path | ir.Model:
    """The file or, where there is none, the graph whose digest goes into the history."""
    if isinstance(model, str | Path) and not models.is_source(model):
        return model
    return models.graph(model)


def _history_arguments(options: SurgeryOptions) -> dict[str, Any]:
    """The shared options that the history records: choices, and no paths."""
    chosen = {"only": list(options.get("only", ())), "skip": list(options.get("skip", ()))}
    return {key: globs for key, globs in chosen.items() if globs}
