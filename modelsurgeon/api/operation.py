"""The flow around every surgery verb, once: load, copy, pass, comparison, history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from modelsurgeon.api import models, samples
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


HALF_PRECISION_TOLERANCE = {
    "FLOAT16": 1e-2,
    "BFLOAT16": 8e-2,
}  # ten steps of the type: exact surgery rounds its weights anew


class How(TypedDict, total=False):
    """What every verb takes. data: samples (`data.batches`); without them, seeded noise is compared on.

    only, skip: globs on layer names. shapes, dims: sizes that the model leaves open. compare: run the models.
    tolerance: raise ToleranceExceeded where relative L2 at an output is larger. provider: "cpu" or "cuda".
    """

    data: Any
    only: Sequence[str]
    skip: Sequence[str]
    shapes: Mapping[str, Sequence[int]]
    dims: Mapping[str, int]
    seed: int
    tolerance: float | None
    compare: bool
    provider: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a surgery verb did: the edited model, an edit per layer, and how its answers compare."""

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
    how: How,
    *,
    exact: bool,
    arguments: Mapping[str, Any] | None = None,
    learns: bool = False,
    vectors: bool = False,
) -> Operation:
    """Let a pass work on a copy of the model, compare what comes out, and write a line of history.

    verb, arguments: for the history; no paths in them. exact: the answers must hold to EXACT, or to within
    the model's own noise; otherwise only a given tolerance is a gate. learns: the pass needs samples; a
    quarter of them is held out for the comparison. vectors: outputs that have become maps of one position are
    compared as the vectors they were. Raises ToleranceExceeded, and what pass and models raise.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    original = models.graph(model, shapes=how.get("shapes"))
    given = model if isinstance(model, str | Path) else original
    compares = how.get("compare", True)
    feeds, notes = _feeds(original, how) if learns or compares else (None, ["not compared"])
    learned, judged = split(feeds) if learns and feeds is not None else (None, feeds)
    subject = pass_context(original, how, learned)
    edits = work(subject)
    if any(edit.skipped is None for edit in edits):
        RemoveUnusedNodesPass()(subject.model)
    comparison = None
    if compares and judged is not None:
        meant = [] if exact else [f"{verb} is meant to change the answers"]
        told = [*meant, *notes]
        comparison = _compare(original, subject.model, judged, how, told, vectors=vectors)
        _check_gate(verb, comparison, exact=exact, tolerance=how.get("tolerance"))
    record(subject.model, verb, _history_arguments(how) | dict(arguments or {}), source(given), comparison)
    told = [] if comparison else ["not compared"]
    return Operation(verb=verb, model=subject.model, edits=edits, comparison=comparison, notes=told)


def operate_in_place(
    module: nn.Module,
    verb: str,
    work: Callable[[nn.Module, Batches, Callable[[str], str | None]], list[Edit]],
    how: How,
    *,
    exact: bool,
    learns: bool = False,
) -> Operation:
    """The same for an nn.Module, which is edited itself once the gate has held on a copy of it.

    Raises UnknownShape where neither data nor shapes say what it takes, and otherwise as `operate`.
    """
    from modelsurgeon.torch.model import TorchModel

    editable = TorchModel(module, data=how.get("data"), shapes=how.get("shapes"))
    feeds = editable.batches(how.get("seed", 0))
    if feeds is None:
        raise UnknownShape("a module fixes no input shapes: give data, or the shape of every input")
    learned, judged = split(feeds) if learns else (feeds, feeds)

    def left(layer: str) -> str | None:
        return exclusion_reason(layer, how.get("only", ()), how.get("skip", ()))

    comparison = None
    if how.get("compare", True):
        trial = editable.fresh_copy()
        work(trial.finish(), learned, left)
        comparison = compare_runs(
            editable.runner(),
            trial.runner(),
            judged,
            rerun_a=editable.runner(reference=True),
            tolerance=how.get("tolerance"),
        )
        _check_gate(verb, comparison, exact=exact, tolerance=how.get("tolerance"))
    edits = work(module, learned, left)
    notes = [] if comparison else ["not compared"]
    return Operation(verb=verb, model=module, edits=edits, comparison=comparison, notes=notes)


def record(
    edited: ir.Model,
    verb: str,
    arguments: Mapping[str, Any],
    source: str | Path | ir.Model,
    comparison: Comparison | None,
) -> None:
    """Write a line of history into a model. source: the file or the graph that it was made from."""
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


def pass_context(original: ir.Model, how: How, batches: Batches | None) -> PassContext:
    """A copy to work on, with what the caller chose. Raises BadPlan for a glob that is no layer's name."""
    from modelsurgeon.onnx.layers.sites import editable_copy
    from modelsurgeon.onnx.passes.context import PassContext

    subject = PassContext(
        model=editable_copy(original),
        only=how.get("only", ()),
        skip=how.get("skip", ()),
        given=how.get("shapes"),
        dims=how.get("dims"),
        batches=batches,
        provider=how.get("provider", "cpu"),
    )
    subject.check_globs()
    return subject


def _feeds(model: ir.Model, how: How) -> tuple[Batches, list[str]]:
    shapes, dims = how.get("shapes"), how.get("dims")
    return samples.feeds(model, how.get("data"), seed=how.get("seed", 0), shapes=shapes, dims=dims)


def _compare(
    original: ir.Model,
    edited: ir.Model,
    feeds: Batches,
    how: How,
    notes: Sequence[str],
    *,
    vectors: bool = False,
) -> Comparison:
    """The edited model held against the original, both as written: with onnxruntime's optimizations off.

    Where one was cut out of the other, its inputs and outputs are tensors inside the other.
    """
    from modelsurgeon.onnx.run import inputs, runner

    provider = how.get("provider", "cpu")
    given = {each.name for each in inputs(original)}
    entries = [each.name for each in inputs(edited) if each.name not in given]
    asked = [str(value.name) for value in edited.graph.outputs]

    def answers(*, optimize: bool) -> Run:
        run = runner(original, outputs=asked, provider=provider, optimize=optimize)
        return lambda feed: {name: value for name, value in run(feed).items() if name in asked}

    if entries:
        enter = runner(original, outputs=entries, provider=provider, optimize=False)
        unfed = feeds
        feeds = replace(unfed, make=lambda: ({**feed, **enter(feed)} for feed in unfed))
    theirs = runner(edited, provider=provider, optimize=False)
    return compare_runs(
        answers(optimize=False),
        _as_vectors(theirs, original) if vectors else theirs,
        feeds,
        rerun_a=answers(optimize=True),
        tolerance=_tolerance(original, how),
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


def _tolerance(model: ir.Model, how: How) -> float | None:
    """The one that was given, or what rounding weights to half precision makes necessary, else None."""
    if (given := how.get("tolerance")) is not None:
        return given
    found = {str(value.dtype) for value in model.graph.initializers.values()}
    return max(
        (HALF_PRECISION_TOLERANCE[name] for name in found & HALF_PRECISION_TOLERANCE.keys()), default=None
    )


def _check_gate(verb: str, comparison: Comparison, *, exact: bool, tolerance: float | None) -> None:
    if comparison.verdict == "different" and (exact or tolerance is not None):
        raise ToleranceExceeded(
            f"{verb} changed the answers: relative L2 at the outputs is {comparison.worst:.3g}, at most "
            f"{comparison.tolerance:g} was allowed: leave layers out (--skip), or allow more (--tolerance)"
        )


def source(model: models.Model) -> str | Path | ir.Model:
    """What the digest in a history is of: the file, or the graph where there is none."""
    if isinstance(model, str | Path) and not models.is_source(model):
        return model
    return models.graph(model)


def _history_arguments(how: How) -> dict[str, Any]:
    """The shared arguments that a history tells: what was chosen, never where it lies."""
    chosen = {"only": list(how.get("only", ())), "skip": list(how.get("skip", ()))}
    return {key: globs for key, globs in chosen.items() if globs}
