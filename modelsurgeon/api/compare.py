"""Two models run on the same samples and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelsurgeon.api.models import Dims, Shapes, graph
from modelsurgeon.api.samples import feeds
from modelsurgeon.arguments import Count, Seed, Tolerance, checked
from modelsurgeon.errors import SurgeryError

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelsurgeon.api.models import Model
    from modelsurgeon.comparison.compare import Comparison, Run

MAX_LAYERS_NAMED = 5  # in a note


@checked
def compare(
    a: Model,
    b: Model,
    data: Any = None,  # noqa: ANN401 - see data.batches
    *,
    samples: Count | None = None,
    batch: Count | None = None,
    skip_bad: bool = False,
    seed: Seed = 0,
    tolerance: Tolerance | None = None,
    per_layer: bool = False,
    by_position: bool = False,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    provider: str = "cpu",
) -> Comparison:
    """Whether two models give the same outputs for the same samples, within the noise of A itself.

    The noise floor is the difference of A from itself under another legal execution: optimizations off, one
    thread. Errors are relative L2 norms, over all samples. Each model is fed in its own types: what A is fed
    is converted for B where nothing but the rounding of floats is lost.

    data: whatever `data.batches` takes; without it, seeded noise is drawn and the result says so. samples: at
    most so many of data, or how many are drawn. batch: samples per feed, where A leaves that open. skip_bad:
    leave out samples with NaN or infinite values instead of raising. seed: of the noise. tolerance: relative
    L2 up to which outputs count as the same, 1e-5 by default. per_layer: also compare the outputs of the
    linear layers of A that have a counterpart in B, as `diff` aligns them; they have no part in the verdict.
    by_position: pair inputs and outputs of other names by their position, never across types or ranks.
    shapes, dims: sizes that A leaves open. provider: where both run. The verdict is None, with the reason,
    where nothing could be compared or a model differs from itself. Raises BadModel, BadData, UnknownShape,
    and Unavailable for a missing provider.
    """
    from modelsurgeon.comparison.compare import compare as compare_runs
    from modelsurgeon.onnx.graph.randomness import random_operators
    from modelsurgeon.onnx.run import inputs, runner
    from modelsurgeon.onnx.run.noise_floor import other_execution
    from modelsurgeon.onnx.run.own_types import in_own_types

    ours, theirs = graph(a, shapes=shapes), graph(b, shapes=shapes)
    names = _label("A", ours), _label("B", theirs)
    with _named(names[0]):
        batches, notes = feeds(
            ours, data, samples=samples, batch=batch, skip_bad=skip_bad, seed=seed, shapes=shapes, dims=dims
        )
    layers, about_layers = _layers(ours, theirs) if per_layer else ([], [])
    tensors = [pair.a for pair in layers], [pair.b for pair in layers]
    run_a = _named_run(names[0], lambda: runner(ours, provider=provider, outputs=tensors[0]))
    run_b = _named_run(names[1], lambda: runner(theirs, provider=provider, outputs=tensors[1]))
    with _named(names[1]):
        fed = batches.inputs or inputs(ours)
        convert = in_own_types(fed, inputs(theirs, with_defaults=True), by_position=by_position)
    return compare_runs(
        run_a,
        lambda feed: run_b(_converted(names[1], feed, convert)),
        batches,
        rerun_a=_named_run(names[0], lambda: other_execution(ours, provider=provider)),
        tolerance=tolerance,
        by_position=by_position,
        layers=layers,
        random=random_operators(ours),
        random_b=random_operators(theirs),
        providers=(provider, provider),
        notes=[*convert.notes, *about_layers, *notes],
    )


def _label(letter: str, model: ir.Model) -> str:
    """What messages call a model: its letter, and its path where it has one."""
    path = model.meta.get("modelsurgeon.path")
    return letter if path is None else f"{letter} ({path})"


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Raise problems with the name of the model that they arose in."""
    try:
        yield
    except SurgeryError as problem:
        raise type(problem)(f"{label}: {problem}") from problem


def _named_run(label: str, start: Callable[[], Run]) -> Run:
    """A run whose problems, and those of its start, name the model."""
    with _named(label):
        run = start()

    def named(feed: Any) -> Any:  # noqa: ANN401 - as a Run
        with _named(label):
            return run(feed)

    return named


def _converted(label: str, feed: Any, convert: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - feeds
    with _named(label):
        return convert(feed)


def _layers(a: ir.Model, b: ir.Model) -> tuple[Sequence[Any], list[str]]:
    """The layers of both models that belong together, and notes on how many have no counterpart."""
    from modelsurgeon.comparison.pairing import LayerPair
    from modelsurgeon.onnx.diff.layers import aligned_layers

    found = aligned_layers(a, b)
    pairs = [LayerPair(layer=name, a=ours, b=theirs) for name, ours, theirs in found.pairs]
    total = len(found.pairs) + len(found.only_a)
    notes = [f"{len(found.pairs)} of {total} layers of A have a counterpart in B and are compared too"]
    for letter, alone in (("A", found.only_a), ("B", found.only_b)):
        if alone:
            more = f" and {len(alone) - MAX_LAYERS_NAMED} more" if len(alone) > MAX_LAYERS_NAMED else ""
            notes.append(f"only in {letter}: {', '.join(alone[:MAX_LAYERS_NAMED])}{more}")
    return pairs, notes
