"""The steps around every surgery verb: load, copy, pass, comparison, gate, history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelsurgeon.api import models, samples
from modelsurgeon.api.options import CompressionOptions, SurgeryOptions, reject_unknown
from modelsurgeon.comparison import gate
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.comparison.compare import compare as compare_runs
from modelsurgeon.data import Batches, split
from modelsurgeon.errors import Unavailable, UnknownShape
from modelsurgeon.surgery.edits import Edit, exclusion_reason, tables

if TYPE_CHECKING:
    import onnx_ir as ir
    from rich.console import RenderableType
    from torch import nn

    from modelsurgeon.comparison.compare import Run
    from modelsurgeon.onnx.passes.context import Pass, PassContext
    from modelsurgeon.onnx.run.runnable_part import RunnablePart
    from modelsurgeon.report.table import Table


# Relative L2 that exact surgery may cost in half precision, ten steps of the type: weights are rounded anew.
HALF_PRECISION_TOLERANCE = {"FLOAT16": 1e-2, "BFLOAT16": 8e-2}
GATE_ADVICE = "leave layers out (--skip), or allow more (--tolerance)"


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
    holds_out: bool = True,
    vectors: bool = False,
    cut: bool = False,
) -> Operation:
    """Run a pass on a copy of the model, compare the outputs, and write a line of history.

    verb, arguments: for the history; no paths in them. exact: outputs must be equal up to EXACT_TOLERANCE
    (relative L2) or to within the model's own noise; otherwise only a given tolerance is a gate. learns: the
    pass needs samples; with holds_out, a quarter of them is for the comparison alone. vectors: outputs that
    have become maps of one position are compared as the vectors that they were. cut: inputs and outputs are
    chosen anew; otherwise they stay, see `onnx.finish`. Raises ToleranceExceeded, NoVerdict, TypeError for
    an unknown option, and what the pass and loading the model raise.
    """
    from modelsurgeon.onnx.finish import finish

    reject_unknown(verb, options, SurgeryOptions)
    gate.check_compares(options.get("tolerance"), compares=options.get("compare", True))
    original = models.graph(model, shapes=options.get("shapes"))
    given = model if isinstance(model, str | Path) else original
    original, frozen = freeze_inputs(original, options)
    compares = options.get("compare", True)
    feeds, notes = drawn_feeds(original, options) if learns or compares else (None, ["not compared"])
    learned, held_out = _parts(feeds, learns=learns, holds_out=holds_out)
    notes += _learning_notes(learned, holds_out=holds_out, compares=compares)
    context = pass_context(original, options, learned)
    measured = None if context.given or context.dims else context.measured  # the passes need it, too
    edits = work(context)
    done = any(edit.skipped is None for edit in edits)
    finish(context.model, original, tidy=done, measured=measured, cut=cut)
    comparison = None
    if compares and held_out is not None:
        intended = [] if exact else [f"{verb} is meant to change the outputs"]
        about = [*intended, *notes]
        gated = exact or options.get("tolerance") is not None
        comparison = compare_with_original(
            original,
            context.model,
            held_out,
            options,
            about,
            layers={edit.layer for edit in edits if edit.skipped is None},
            vectors=vectors,
            gated=gated,
        )
        gate.check(comparison, GATE_ADVICE, subject=f"{verb} changed the outputs")
    recorded = _history_arguments(options) | dict(arguments or {})
    record(context.model, verb, recorded, source(given), comparison)
    return _result(verb, context.model, edits, comparison, [*frozen, *([] if comparison else notes)])


def operate_in_place(
    module: nn.Module,
    verb: str,
    work: Callable[[nn.Module, Batches, Callable[[str], str | None]], list[Edit]],
    options: SurgeryOptions,
    *,
    exact: bool,
    learns: bool = False,
    holds_out: bool = True,
) -> Operation:
    """As `operate`, for an nn.Module: it is edited itself once the gate has held on a copy of it.

    Raises UnknownShape where neither data nor shapes give the sizes of its inputs.
    """
    from modelsurgeon.torch.model import TorchModel

    reject_unknown(verb, options, SurgeryOptions)
    gate.check_compares(options.get("tolerance"), compares=options.get("compare", True))
    editable = TorchModel(
        module,
        data=options.get("data"),
        shapes=options.get("shapes"),
        skip_bad=options.get("skip_bad", False),
    )
    feeds = editable.batches(options.get("seed", 0))
    if feeds is None:
        raise UnknownShape("a module fixes no input shapes: give data, or the shape of every input")
    learned, held_out = split(feeds) if learns and holds_out else (feeds, feeds)
    notes = [feeds.note] if feeds.note else []
    if learns:
        notes += _learning_notes(learned, holds_out=holds_out, compares=options.get("compare", True))

    def excluded(layer: str) -> str | None:
        return exclusion_reason(layer, options.get("only", ()), options.get("skip", ()))

    comparison = None
    trial = editable.fresh_copy()
    work(trial.finish(), learned, excluded)
    trial.finish()
    if options.get("compare", True):
        comparison = compare_runs(
            editable.runner(),
            trial.runner(),
            held_out,
            rerun_a=editable.runner(reference=True),
            tolerance=options.get("tolerance"),
            asked=exact or options.get("tolerance") is not None,
        )
        gate.check(comparison, GATE_ADVICE, subject=f"{verb} changed the outputs")
    return _result(verb, module, work(module, learned, excluded), comparison, notes)


def _parts(feeds: Batches | None, *, learns: bool, holds_out: bool) -> tuple[Batches | None, Batches | None]:
    """The samples that a pass learns from, and those to compare on."""
    if not learns or feeds is None:
        return None, feeds
    return split(feeds) if holds_out else (feeds, feeds)


def _learning_notes(learned: Batches | None, *, holds_out: bool, compares: bool) -> list[str]:
    """From how many samples something was learned, where none are held out."""
    if learned is None or holds_out or learned.kind != "data":
        return []
    same = ", and compared on the same" if compares else ""
    return [f"the statistics are those of all {learned.samples} samples{same}"]


def freeze_inputs(
    model: ir.Model, options: SurgeryOptions | CompressionOptions
) -> tuple[ir.Model, Sequence[str]]:
    """The model, without the inputs that have a default where the user wants that, and notes about it."""
    from modelsurgeon.onnx.graph import frozen_inputs

    if not options.get("freeze_inputs", False):
        return model, []
    found = frozen_inputs.freeze_inputs(model)
    return found.model, found.notes or ["no input has a default: nothing was frozen"]


def _result(
    verb: str,
    model: Any,  # noqa: ANN401
    edits: Sequence[Edit],
    comparison: Comparison | None,
    notes: Sequence[str],
) -> Operation:
    notes = [*notes] if comparison or "not compared" in notes else [*notes, "not compared"]
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
            verdict=(comparison and comparison.verdict) or history.NOT_COMPARED,
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


def drawn_feeds(model: ir.Model, options: SurgeryOptions) -> tuple[Batches, list[str]]:
    """The caller's samples or seeded noise, and notes about them."""
    shapes, dims = options.get("shapes"), options.get("dims")
    return samples.feeds(
        model,
        options.get("data"),
        skip_bad=options.get("skip_bad", False),
        seed=options.get("seed", 0),
        shapes=shapes,
        dims=dims,
    )


def _noise_for(model: ir.Model, options: SurgeryOptions) -> tuple[Batches, list[str]]:
    """Noise for a part of the caller's model, at the shapes that the caller gave for its inputs."""
    names = {value.name for value in model.graph.inputs}
    shapes = {name: sizes for name, sizes in (options.get("shapes") or {}).items() if name in names}
    return samples.feeds(model, None, seed=options.get("seed", 0), shapes=shapes)


def compare_with_original(
    original: ir.Model,
    edited: ir.Model,
    feeds: Batches,
    options: SurgeryOptions,
    notes: Sequence[str],
    *,
    vectors: bool,
    gated: bool,
    layers: AbstractSet[str],
) -> Comparison:
    """The edited model compared with the original, both as written: with onnxruntime's optimizations off.

    The inputs and outputs of a model that was cut out of the original are tensors inside the original, of
    which only what they need is run. Where an operator can't run here, the tensors in front of it are
    compared. layers: those that were edited. Raises Unavailable where one of them is behind such an operator.
    """
    from modelsurgeon.onnx.graph.randomness import random_operators
    from modelsurgeon.onnx.run import inputs, runner
    from modelsurgeon.onnx.run.noise_floor import other_execution
    from modelsurgeon.onnx.run.runnable_part import part

    provider = options.get("provider", "cpu")
    given = {each.name for each in inputs(original)}
    entries = [each.name for each in inputs(edited) if each.name not in given]
    asked = [str(value.name) for value in edited.graph.outputs]
    cut: list[ir.Value] = []
    if entries:
        try:
            enter = runner(part(original, entries), provider=provider, optimize=False)
            unfed = feeds
            feeds = replace(unfed, make=lambda: ({**feed, **enter(feed)} for feed in unfed))
        except Unavailable:
            cut = [value for value in edited.graph.inputs if value.name in entries]
            feeds, notes = _noise_for(edited, options)
            notes = [f"{', '.join(entries)}: fed with noise, what computes it can't run here", *notes]
    reference, more = part(original, asked, cut), []
    try:
        ours = runner(reference, provider=provider, optimize=False)
    except Unavailable:
        found = _runnable_part(reference, edited, layers, provider)
        asked, more = list(found.outputs), [found.note]
        reference = part(reference, asked)
        ours = runner(reference, provider=provider, optimize=False)
    theirs = runner(part(edited, asked), provider=provider, optimize=False)
    return compare_runs(
        ours,
        _as_vectors(theirs, original) if vectors else theirs,
        feeds,
        rerun_a=other_execution(reference, provider=provider, optimize=False),
        tolerance=_tolerance(original, options),
        asked=gated,
        random=random_operators(original),
        providers=(provider, provider),
        notes=[*more, *notes],
    )


def _runnable_part(
    model: ir.Model, edited: ir.Model, layers: AbstractSet[str], provider: str
) -> RunnablePart:
    """The part that runs here, as far as the edited model has its tensors.

    Raises Unavailable where there is none, or an edited layer isn't in it.
    """
    from modelsurgeon.onnx.graph.names import main_values
    from modelsurgeon.onnx.run.runnable_part import runnable_part

    found = runnable_part(model, [str(value.name) for value in model.graph.outputs], provider=provider)
    operators = ", ".join(found.operators)
    if behind := sorted(layers & found.layers_behind):
        raise Unavailable(
            f"{behind[0]!r} was edited, and {operators}, which can't run here, is in front of it: leave it "
            "out (--skip), or compare nothing with --no-compare"
        )
    if not (kept := [name for name in found.outputs if name in main_values(edited)]):
        raise Unavailable(
            f"{operators} can't run here, and no tensor in front of it is left to compare: compare nothing "
            "with --no-compare"
        )
    return replace(found, outputs=kept)


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


def source(model: models.Model) -> str | Path | ir.Model:
    """The file or, where there is none, the graph whose digest goes into the history."""
    if isinstance(model, str | Path) and not models.is_source(model):
        return model
    return models.graph(model)


def _history_arguments(options: SurgeryOptions) -> dict[str, Any]:
    """The shared options that the history records: choices, and no paths."""
    chosen = {"only": list(options.get("only", ())), "skip": list(options.get("skip", ()))}
    frozen = {"freeze_inputs": True} if options.get("freeze_inputs", False) else {}
    return {key: globs for key, globs in chosen.items() if globs} | frozen
