"""Steal layers: copy weights from a donor into a recipient, grow heads, and list what to freeze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from modelsurgeon.api import models, samples
from modelsurgeon.api.operation import Operation, freeze_inputs, pass_context, record
from modelsurgeon.api.options import SurgeryOptions, reject_unknown
from modelsurgeon.arguments import checked
from modelsurgeon.comparison import gate
from modelsurgeon.comparison.compare import Comparison, Run
from modelsurgeon.comparison.compare import compare as compare_runs
from modelsurgeon.data import batches
from modelsurgeon.data.feeds import Input, cast, is_float
from modelsurgeon.errors import BadData, BadPlan, NoVerdict
from modelsurgeon.matching.head_rows import Growth, Init, Means, class_origins
from modelsurgeon.surgery.edits import Edit

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelsurgeon.onnx.passes.steal.scores import ClassPlaces

STATE_DICT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})
LABEL = "label"  # the array in an .npz that holds every sample's class


@dataclass(frozen=True, kw_only=True)
class Stolen(Operation):
    """The result of stealing. frozen: names of the tensors that were copied whole, to freeze in training."""

    frozen: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The operation as plain JSON data."""
        return super().as_dict() | {"frozen": list(self.frozen)}


@checked
def steal(
    donor: models.Model | Mapping[str, Any],
    recipient: models.Model | Mapping[str, Any],
    *,
    given: Mapping[str, str] | None = None,
    partial: bool = False,
    grow: Mapping[str, int] | None = None,
    grow_init: Init = "zero",
    labels: object = None,
    classes: Sequence[int] | None = None,
    **options: Unpack[SurgeryOptions],
) -> Stolen:
    """Copy the donor's weights into the recipient wherever layers match by name, by structure, or by a map.

    Both are models, or both state dicts (mappings, or files of them).

    given: recipient's layer -> donor's. partial: where shapes differ, copy the block that both have. grow:
    layer -> number of classes; the old classes keep their rows. grow_init: of new rows: "zero", "mean" (of
    the old rows), "random" (normal, with mean and deviation of the old weights), "map" (from the classes that
    `labels` names) or "fit" (least squares to class means). labels: {"donor": [...], "recipient": [...]} with
    class names, or new index -> old index or indices. classes: the class of every sample of `data`, for
    "fit"; read from the array "label" of an .npz where it isn't given.

    The result is compared with the donor, old class by old class. Raises BadPlan for names or labels that
    don't fit, BadData, ToleranceExceeded.
    """
    reject_unknown("steal", options, SurgeryOptions)
    gate.check_compares(options.get("tolerance"), compares=options.get("compare", True))
    growth = Growth(sizes=grow or {}, init=grow_init, labels=labels, seed=options.get("seed", 0))
    if isinstance(donor, Mapping) or isinstance(recipient, Mapping) or _is_state(recipient):
        return _steal_state(donor, recipient, given, partial, growth)
    from modelsurgeon.onnx.finish import finish
    from modelsurgeon.onnx.passes.steal.steal import fully_copied
    from modelsurgeon.onnx.passes.steal.steal import steal as work

    if _is_state(donor):
        raise BadData(f"{donor} is a state dict and the recipient a model: give two of a kind")
    theirs, ours = models.graph(donor), models.graph(recipient, shapes=options.get("shapes"))
    source = recipient if isinstance(recipient, str | Path) else ours
    ours, frozen = freeze_inputs(ours, options)
    theirs, _ = freeze_inputs(theirs, options)
    read, defaults_taken = _with_defaults_fixed(theirs)
    context = pass_context(ours, options, None)
    growth = replace(growth, means=_class_means(options, classes))
    edits = work(context, read, given=given, partial=partial, growth=growth)
    done = any(edit.skipped is None for edit in edits)
    finish(context.model, ours, tidy=done)
    comparison, notes = None, ["not compared"]
    if options.get("compare", True):
        heads = {edit.layer: str(edit.details["donor"]) for edit in edits if edit.action == "grow"}
        comparison, notes = _compare(theirs, context.model, growth, heads, options)
        if comparison is None and options.get("tolerance") is not None:
            raise NoVerdict(f"no verdict, and a tolerance was given (--tolerance): {notes[0]}")
    arguments = {"given": given, "partial": partial, "grow": grow, "grow_init": grow_init if grow else None}
    arguments["freeze_inputs"] = options.get("freeze_inputs", False)
    recorded = {name: value for name, value in arguments.items() if value}
    record(context.model, "steal", recorded, source, comparison)
    return Stolen(
        verb="steal",
        model=context.model,
        edits=edits,
        comparison=comparison,
        notes=[*_coverage(edits), *defaults_taken, *frozen, *notes],
        frozen=fully_copied(context.model, edits),
    )


def _with_defaults_fixed(donor: ir.Model) -> tuple[ir.Model, list[str]]:
    """The donor with the defaults of its inputs as weights, which are only read, and a note about it."""
    from modelsurgeon.onnx.graph.frozen_inputs import FIRST_IR_VERSION_WITHOUT_LISTING, freeze_inputs

    found = freeze_inputs(donor)
    said = found.notes and donor.ir_version >= FIRST_IR_VERSION_WITHOUT_LISTING
    return found.model, ["weights of the donor are inputs: their defaults are taken"] if said else []


def _coverage(edits: Sequence[Edit]) -> list[str]:
    done = sum(edit.skipped is None for edit in edits)
    return [f"{done} of {len(edits)} layers with weights have some from the donor"]


def _is_state(model: object) -> bool:
    return isinstance(model, Mapping) or (
        isinstance(model, str | Path) and Path(model).suffix in STATE_DICT_SUFFIXES
    )


def _steal_state(
    donor: Any,  # noqa: ANN401 - a path or a state dict
    recipient: Any,  # noqa: ANN401
    given: Mapping[str, str] | None,
    partial: bool,
    growth: Growth,
) -> Stolen:
    from modelsurgeon.torch.state_dict import state_of
    from modelsurgeon.torch.steal import steal as work

    for each in (donor, recipient):
        if not _is_state(each):
            raise BadData("one is a model and the other a state dict: give two of a kind")
    theirs, ours = (
        state_of(Path(each)) if isinstance(each, str | Path) else each for each in (donor, recipient)
    )
    state, edits, frozen = work(theirs, ours, given=given, partial=partial, growth=growth)
    notes = [*_coverage(edits), "not compared: a state dict alone can't be run"]
    return Stolen(verb="steal", model=state, edits=edits, comparison=None, notes=notes, frozen=frozen)


def _compare(
    donor: ir.Model, made: ir.Model, growth: Growth, heads: Mapping[str, str], options: SurgeryOptions
) -> tuple[Comparison | None, list[str]]:
    """The result compared with the donor: inputs pair by position, outputs by name, then by position,
    and classes by their origin.

    heads: grown layer -> the donor's. Their old classes must be equal, before a softmax over all classes.
    """
    from modelsurgeon.onnx.graph.randomness import random_operators
    from modelsurgeon.onnx.passes.steal.scores import compared_values
    from modelsurgeon.onnx.run import inputs, runner
    from modelsurgeon.onnx.run.noise_floor import other_execution

    takes, gives = inputs(donor), inputs(made)
    if len(takes) != len(gives) or not all(map(_are_alike, takes, gives)):
        return _not_compared("donor and recipient take different inputs", heads)
    provider = options.get("provider", "cpu")
    entries = dict(zip((each.name for each in takes), gives, strict=True))
    data, seed, dims = options.get("data"), options.get("seed", 0), options.get("dims")
    feeds, about_feeds = samples.feeds(
        donor, data, skip_bad=options.get("skip_bad", False), seed=seed, dims=dims
    )
    if len(donor.graph.outputs) != len(made.graph.outputs):
        return _not_compared("donor and recipient give different numbers of outputs", heads)
    defaults = {each.name: each for each in inputs(made, with_defaults=True) if each.has_default}
    for each in feeds.inputs:
        if each.has_default and each.name not in defaults:
            raise BadData(f"{each.name} replaces a default of the donor alone: leave it out of the data")
    takes = [*takes, *(each for each in feeds.inputs if each.has_default)]
    entries = {**defaults, **entries}
    scores = compared_values(donor, made, heads)
    if scores.problem:
        return _not_compared(scores.problem, heads)
    same = dict(zip((each.name for each in takes), takes, strict=True))
    theirs = runner(donor, outputs=scores.donor, provider=provider, optimize=False)
    rerun = other_execution(donor, outputs=scores.donor, optimize=False, provider=provider)
    mine = runner(made, outputs=scores.made, provider=provider, optimize=False)
    renamed = _by_position(mine, entries, scores.made, scores.donor)
    comparison = compare_runs(
        _by_position(theirs, same, scores.donor, scores.donor),
        _old_classes(renamed, scores.axes, growth),
        feeds,
        rerun_a=_by_position(rerun, same, scores.donor, scores.donor),
        tolerance=options.get("tolerance"),
        asked=bool(heads) or options.get("tolerance") is not None,
        random=random_operators(donor),
        random_b=random_operators(made),
        providers=(provider, provider),
        notes=["A is the donor, B what was made", *scores.notes, *about_feeds],
    )
    gate.check(
        comparison,
        "match more layers (--map), or allow more (--tolerance)",
        subject="old classes of the grown head changed" if heads else "the outputs differ from the donor's",
    )
    return comparison, []


def _are_alike(one: Input, other: Input) -> bool:
    """Whether two inputs may take the same arrays, floats of any width."""
    if one.dtype != other.dtype and not (is_float(one.dtype) and is_float(other.dtype)):
        return False
    if one.shape is None or other.shape is None:
        return True
    sizes = zip(one.shape, other.shape, strict=False)
    fit = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sizes)
    return len(one.shape) == len(other.shape) and fit


def _not_compared(reason: str, heads: Mapping[str, str]) -> tuple[None, list[str]]:
    """No comparison, with the reason. Raises BadPlan where a grown head needs one."""
    if heads:
        raise BadPlan(
            f"the old classes of {next(iter(heads))!r} can't be compared: {reason}; see --no-compare"
        )
    return None, [f"not compared: {reason}"]


def _by_position(run: Run, entries: Mapping[str, Input], made: Sequence[str], donor: Sequence[str]) -> Run:
    """The run with the donor's names for its inputs and outputs, and with inputs of the donor's type."""

    def renamed(feed: Mapping[str, Any]) -> dict[str, Any]:
        values = run({entries[name].name: cast(array, entries[name]) for name, array in feed.items()})
        return {theirs: values[mine] for theirs, mine in zip(donor, made, strict=True)}

    return renamed


def _old_classes(run: Run, axes: Mapping[str, ClassPlaces], growth: Growth) -> Run:
    """The run, with the donor's classes alone, in its order. axes: output -> where its classes are."""

    def shrunk(name: str, value: Any) -> Any:  # noqa: ANN401 - arrays
        if name not in axes:
            return value
        places = axes[name]
        rows = class_origins(value.shape[places.axis], places.classes, growth.labels, growth.init)
        place = {row[0]: new for new, row in reversed(list(enumerate(rows))) if len(row) == 1}
        if len(place) < places.classes:
            return value
        return np.take(value, [place[old] for old in range(places.classes)], places.axis)

    return lambda feed: {name: shrunk(name, value) for name, value in run(feed).items()}


def _class_means(options: SurgeryOptions, classes: Sequence[int] | None) -> Means | None:
    """A function for the mean of a tensor over the samples of every class; None without data."""
    data, skip_bad = options.get("data"), options.get("skip_bad", False)
    if data is None:
        return None
    from modelsurgeon.onnx.run import inputs, runner

    def means(model: Any, name: str, count: int) -> Any:  # noqa: ANN401 - an ir.Model; an array
        takes = inputs(model, with_defaults=True)
        if classes is None:
            _check_labels(data)
            rows = next((each.rows for each in takes if each.shape), None)
            takes.append(Input(name=LABEL, dtype=np.dtype(np.int64), shape=(rows,)))
        run = runner(model, outputs=[name], provider=options.get("provider", "cpu"))
        fed = [(run(feed)[name], feed.get(LABEL)) for feed in batches(data, takes, skip_bad=skip_bad)]
        features = np.concatenate([found for found, _ in fed])
        labels = np.concatenate([found for _, found in fed]) if classes is None else np.asarray(classes)
        if len(features) != len(labels):
            raise BadData(f"{len(labels)} labels and {len(features)} samples: one for each is needed")
        found = np.full((count, features.shape[1]), np.nan)
        for label in range(count):
            if (labels == label).any():
                found[label] = features[labels == label].mean(axis=0)
        return found

    return means


def _check_labels(data: object) -> None:
    """Raise BadData where the data have no class for each sample."""
    if isinstance(data, str | Path) and Path(data).suffix == ".npz":
        with np.load(data, allow_pickle=False) as held:
            has = LABEL in held
    else:
        has = isinstance(data, Mapping) and LABEL in data
    if not has:
        raise BadData(
            f"new rows are fitted to classes: an array {LABEL!r} with the class of each sample is needed"
        )
