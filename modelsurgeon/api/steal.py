"""Steal layers: copy weights from a donor into a recipient, grow heads, and list what to freeze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from modelsurgeon.api import models, samples
from modelsurgeon.api.operation import Operation, pass_context, record
from modelsurgeon.api.options import SurgeryOptions, reject_unknown
from modelsurgeon.comparison.compare import Comparison, Run
from modelsurgeon.comparison.compare import compare as compare_runs
from modelsurgeon.data import batches
from modelsurgeon.data.feeds import Input
from modelsurgeon.errors import BadData, ToleranceExceeded
from modelsurgeon.matching.head_rows import Growth, Init, Means, class_origins
from modelsurgeon.surgery.edits import Edit

if TYPE_CHECKING:
    import onnx_ir as ir

STATE_DICT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})
LABEL = "label"  # the array in an .npz that holds every sample's class


@dataclass(frozen=True, kw_only=True)
class Stolen(Operation):
    """The result of stealing. frozen: names of the tensors that were copied whole, to freeze in training."""

    frozen: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The operation as plain JSON data."""
        return super().as_dict() | {"frozen": list(self.frozen)}


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
    growth = Growth(sizes=grow or {}, init=grow_init, labels=labels, seed=options.get("seed", 0))
    if isinstance(donor, Mapping) or isinstance(recipient, Mapping) or _is_state(recipient):
        return _steal_state(donor, recipient, given, partial, growth)
    from modelsurgeon.onnx.declarations import restore_declarations
    from modelsurgeon.onnx.passes.steal.steal import fully_copied
    from modelsurgeon.onnx.passes.steal.steal import steal as work

    if _is_state(donor):
        raise BadData(f"{donor} is a state dict and the recipient a model: give two of a kind")
    theirs, ours = models.graph(donor), models.graph(recipient, shapes=options.get("shapes"))
    context = pass_context(ours, options, None)
    growth = replace(growth, means=_class_means(options, classes))
    edits = work(context, theirs, given=given, partial=partial, growth=growth)
    restore_declarations(context.model, ours)
    comparison, notes = None, ["not compared"]
    if options.get("compare", True):
        comparison, notes = _compare(theirs, context.model, growth, options)
    arguments = {"given": given, "partial": partial, "grow": grow, "grow_init": grow_init if grow else None}
    recorded = {name: value for name, value in arguments.items() if value}
    record(
        context.model, "steal", recorded, recipient if isinstance(recipient, str | Path) else ours, comparison
    )
    return Stolen(
        verb="steal",
        model=context.model,
        edits=edits,
        comparison=comparison,
        notes=[*_coverage(edits), *notes],
        frozen=fully_copied(context.model, edits),
    )


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
    donor: ir.Model, made: ir.Model, growth: Growth, options: SurgeryOptions
) -> tuple[Comparison | None, list[str]]:
    """The result compared with the donor: inputs and outputs pair by position, classes by their origin."""
    from modelsurgeon.onnx.run import inputs, runner
    from modelsurgeon.onnx.run.noise_floor import other_execution

    takes, gives = inputs(donor), inputs(made)
    if len(takes) != len(gives) or not all(map(_are_alike, takes, gives)):
        return None, ["not compared: donor and recipient take different inputs"]
    provider = options.get("provider", "cpu")
    names = dict(zip((each.name for each in takes), (each.name for each in gives), strict=True))
    data, seed, dims = options.get("data"), options.get("seed", 0), options.get("dims")
    feeds, about_feeds = samples.feeds(donor, data, seed=seed, dims=dims)
    theirs = runner(donor, provider=provider, optimize=False)
    mine = runner(made, provider=provider, optimize=False)
    if len(donor.graph.outputs) != len(made.graph.outputs):
        return None, ["not compared: donor and recipient give different numbers of outputs"]
    renamed = _by_position(mine, names, [str(value.name) for value in donor.graph.outputs])
    comparison = compare_runs(
        theirs,
        _old_classes(renamed, theirs, growth),
        feeds,
        rerun_a=other_execution(donor, optimize=False, provider=provider),
        tolerance=options.get("tolerance"),
        providers=(provider, provider),
        notes=["A is the donor, B what was made", *about_feeds],
    )
    if options.get("tolerance") is not None and comparison.verdict == "different":
        raise ToleranceExceeded(
            f"relative L2 to the donor's outputs is {comparison.worst:.3g}, at most {comparison.tolerance:g} "
            "was allowed: match more layers (--map), or allow more (--tolerance)"
        )
    return comparison, []


def _are_alike(one: Input, other: Input) -> bool:
    """Whether two inputs may take the same arrays."""
    if one.dtype != other.dtype or one.shape is None or other.shape is None:
        return one.dtype == other.dtype
    sizes = zip(one.shape, other.shape, strict=False)
    fit = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sizes)
    return len(one.shape) == len(other.shape) and fit


def _by_position(run: Run, names: Mapping[str, str], outputs: Sequence[str]) -> Run:
    """The run with the donor's names for its inputs and outputs."""

    def renamed(feed: Mapping[str, Any]) -> dict[str, Any]:
        values = run({names[name]: array for name, array in feed.items()})
        return dict(zip(outputs, values.values(), strict=True))

    return renamed


def _old_classes(run: Run, donor: Run, growth: Growth) -> Run:
    """Where a head has grown, the classes that the donor has, in its order."""

    def shrunk(value: Any, wanted: Any) -> Any:  # noqa: ANN401 - arrays
        axes = [a for a in range(1, value.ndim) if value.shape[a] != wanted.shape[a]]
        if value.ndim != wanted.ndim or len(axes) != 1 or value.shape[axes[0]] not in growth.sizes.values():
            return value
        [axis] = axes
        rows = class_origins(value.shape[axis], wanted.shape[axis], growth.labels, growth.init)
        place = {row[0]: new for new, row in reversed(list(enumerate(rows))) if len(row) == 1}
        if len(place) < wanted.shape[axis]:
            return value
        return np.take(value, [place[old] for old in range(wanted.shape[axis])], axis)

    if not growth.sizes:
        return run
    return lambda feed: {
        name: shrunk(value, wanted)
        for (name, value), wanted in zip(run(feed).items(), donor(feed).values(), strict=True)
    }


def _class_means(options: SurgeryOptions, classes: Sequence[int] | None) -> Means | None:
    """A function for the mean of a tensor over the samples of every class; None without data."""
    data = options.get("data")
    if data is None:
        return None
    from modelsurgeon.onnx.run import inputs, runner

    def means(model: Any, name: str, count: int) -> Any:  # noqa: ANN401 - an ir.Model; an array
        labels = np.asarray(_labels(data) if classes is None else classes)
        run = runner(model, outputs=[name], provider=options.get("provider", "cpu"))
        features = np.concatenate([run(feed)[name] for feed in batches(data, inputs(model))])
        if len(features) != len(labels):
            raise BadData(f"{len(labels)} labels and {len(features)} samples: one for each is needed")
        found = np.full((count, features.shape[1]), np.nan)
        for label in range(count):
            if (labels == label).any():
                found[label] = features[labels == label].mean(axis=0)
        return found

    return means


def _labels(data: object) -> Any:  # noqa: ANN401 - an array
    if isinstance(data, str | Path) and Path(data).suffix == ".npz":
        with np.load(data, allow_pickle=False) as held:
            if LABEL in held:
                return held[LABEL]
    raise BadData(
        f"new rows are fitted to classes: an array {LABEL!r} with the class of each sample is needed"
    )
