"""The samples that a model is fed: the caller's, or seeded noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any

from modelsurgeon.api.models import Dims, Shapes

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelsurgeon.data import Batches, Input


def feeds(
    model: ir.Model,
    data: Any,  # noqa: ANN401
    *,
    samples: int | None = None,
    batch: int | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
) -> tuple[Batches, list[str]]:
    """The feeds that a model is compared on, and notes about them for the report.

    The arguments are those of `compare`. Raises BadData, UnknownShape.
    """
    from modelsurgeon.data import batches, noise
    from modelsurgeon.data.samples import NOISE_SAMPLES
    from modelsurgeon.onnx import run
    from modelsurgeon.onnx.run import runnable_sizes
    from modelsurgeon.onnx.shapes import bound

    if data is not None:
        takes = run.inputs(model, with_defaults=True)
        given = batches(data, takes, batch=batch, samples=samples, skip_bad=skip_bad)
        return _first_feeds(given, samples), [given.note] if given.note else []
    assumed = runnable_sizes.first_runnable_sizes(model, shapes, dims, seed=seed)
    inputs = runnable_sizes.inputs(model, bound(model, shapes, dims), assumed)
    drawn = noise(_with_batch(inputs, run.inputs(model), batch), samples=samples or NOISE_SAMPLES, seed=seed)
    sizes = ", ".join(f"{name} = {size}" for name, size in assumed.items() if not (batch and size == 1))
    notes = ["the samples are seeded noise: a verdict on noise is not a verdict on data", drawn.note]
    return drawn, [note for note in (*notes, f"open sizes are taken as {sizes}" if sizes else "") if note]


def _with_batch(inputs: Sequence[Input], declared: Sequence[Input], batch: int | None) -> list[Input]:
    """The inputs with `batch` along the first axis, where that is open and nobody has bound it."""
    return [
        replace(each, shape=(batch, *each.shape[1:]))
        if batch and each.shape and model.shape and each.shape[0] == 1 and model.shape[0] is None
        else each
        for each, model in zip(inputs, declared, strict=True)
    ]


def _first_feeds(feeds: Batches, samples: int | None) -> Batches:
    """The first feeds that together hold at most so many samples, one feed at least."""
    if samples is None or samples >= feeds.samples:
        return feeds
    count = max(samples * len(feeds) // feeds.samples, 1)
    held = min(feeds.samples, count * ceil(feeds.samples / len(feeds)))
    return replace(feeds, count=count, samples=held, make=lambda: islice(feeds, count))
