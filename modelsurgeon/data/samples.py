"""Batches of a model's input data: samples from files or from the caller, or seeded noise.

A sample is one index along the first axis. A feed has as many samples as the input's first axis where the
model fixes it, else `batch` (or 1). An array with one axis more than its input holds complete feeds,
`(samples, *shape of the input)`: the form for states and scalars. An array without axes, for an input without
axes, is the same in every feed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelsurgeon.data import iterables, readers
from modelsurgeon.data.feeds import (
    Array,
    Feed,
    Input,
    as_array,
    batch_size,
    fed_inputs,
    feeds,
    grouped,
    ignored_note,
    is_float,
    slicings,
)
from modelsurgeon.data.iterables import by_name
from modelsurgeon.data.readers import Source
from modelsurgeon.data.values import checked
from modelsurgeon.errors import BadData, UnknownShape

__all__ = ["Array", "Batches", "Feed", "Input", "batches", "noise", "read", "split"]

LOGGER = logging.getLogger("modelsurgeon")

# Integer noise other than uint8 is below 16, valid ids for any vocabulary; flags are 0 or 1, masks all 1.
NOISE_SAMPLES = 8  # drawn where no samples are given
NOISE_ID_LIMIT = 16
FLAG_NAMES = ("type", "segment", "flag")
MASK_NAMES = ("mask",)
VALIDATION_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Feeds that can be iterated repeatedly, each a mapping from input name to array.

    kind: "data" or "noise"; results on noise don't carry over to data. samples: number in all feeds.
    count: number of feeds. note: a remark for reports, or "". inputs: what is fed. make: returns an iterator
    over the feeds.
    """

    kind: Literal["data", "noise"]
    samples: int
    count: int
    note: str = ""
    inputs: Sequence[Input] = ()
    make: Callable[[], Iterator[Feed]] = field(repr=False)

    def __iter__(self) -> Iterator[Feed]:
        """Iterate over the feeds from the first."""
        return self.make()

    def __len__(self) -> int:
        """The number of feeds."""
        return self.count


def read(
    path: str | Path,
    inputs: Sequence[Input],
    *,
    batch: int | None = None,
    samples: int | None = None,
    skip_bad: bool = False,
) -> Batches:
    """Samples from an .npz file with arrays named as the inputs, a folder of such files, or an .npy file.

    An .npy file serves a model with one input. batch: samples per feed where the input's first axis is open;
    samples of other shapes start a new feed. samples: at most so many. skip_bad: leave out samples with NaN
    or infinite values instead of raising. Raises BadData for wrong names, shapes or types, unequal numbers of
    samples, values that aren't finite, pickled objects and no samples.

    An input that has a default is fed where every file has an array of its name: one of just its shape is the
    value for all samples of its file.
    """
    required = [spec.name for spec in inputs if not spec.has_default]
    found = readers.from_files(Path(path), required, [spec.name for spec in inputs if spec.has_default])
    return _from_sources(found, inputs, batch, samples, skip_bad=skip_bad)


def batches(
    data: Any,  # noqa: ANN401
    inputs: Sequence[Input],
    *,
    batch: int | None = None,
    samples: int | None = None,
    skip_bad: bool = False,
) -> Batches:
    """Batches from any form of data.

    data: Batches; a path, as for `read`; a mapping from input name to array, samples along the first axis, or
    one such array where the model has one input; or an iterable of feeds, each a mapping, an array, or an
    array per input. An iterator is read into memory. Feeds are checked each time that they are fed. The other
    arguments are those of `read`. Raises BadData as `read`, or for other types.
    """
    if isinstance(data, Batches):
        return data
    if isinstance(data, str | Path):
        return read(data, inputs, batch=batch, samples=samples, skip_bad=skip_bad)
    if hasattr(data, "__array__") and hasattr(data, "shape"):
        data = by_name((data,), inputs)
    if isinstance(data, Mapping):
        arrays = {str(name): as_array(array, str(name)) for name, array in data.items()}
        return _from_sources([readers.from_memory(arrays)], inputs, batch, samples, skip_bad=skip_bad)
    if isinstance(data, Iterable):
        return _from_feeds(data, inputs, samples, skip_bad=skip_bad)
    raise BadData(f"data of type {type(data).__name__}: a path, arrays by name, or batches are needed")


def noise(inputs: Sequence[Input], *, samples: int, seed: int = 0, batch: int | None = None) -> Batches:
    """Seeded noise: normal for floats, small whole numbers for integers, ones for masks.

    samples: at least so many, rounded up to whole feeds. batch: size of a dynamic first axis, 1 if None.
    Raises UnknownShape where another axis is dynamic, BadData for text inputs and numbers below 1.
    """
    if samples < 1 or (batch is not None and batch < 1):
        raise BadData(f"{samples} samples of noise, batch {batch}: at least 1 is needed of both")
    shapes = [_fixed_shape(spec, batch) for spec in inputs]
    draws = [(spec.name, _noise_draw(spec, shape)) for spec, shape in zip(inputs, shapes, strict=True)]
    size = max(batch_size(shapes), 1)
    count = ceil(samples / size)

    def make() -> Iterator[Feed]:
        for number in range(count):
            random = np.random.default_rng([seed, number])
            yield {name: draw(random) for name, draw in draws}

    note = (
        ""
        if all(is_float(spec.dtype) for spec in inputs)
        else f"integer inputs hold values below {NOISE_ID_LIMIT}"
    )
    return Batches(kind="noise", samples=count * size, count=count, note=note, inputs=list(inputs), make=make)


def split(data: Batches, held_out: float = 0.25) -> tuple[Batches, Batches]:
    """Calibration and held-out feeds; the latter are evenly spaced, so that sorted samples are in both.

    held_out: the fraction of feeds, between 0 and 1; at least one feed. A single feed is returned as both,
    with a note. Raises BadData for another fraction.
    """
    if not 0 < held_out < 1:
        raise BadData(f"a held-out fraction of {held_out}: it must be between 0 and 1")
    total = len(data)
    if total < 2:
        note = "; ".join(
            filter(None, (data.note, "one batch only: calibration and validation use the same samples"))
        )
        return replace(data, note=note), replace(data, note=note)
    wanted = min(max(round(total * held_out), 1), total - 1)
    out = [(i + 1) * wanted // total > i * wanted // total for i in range(total)]
    return _subset(data, [not held for held in out]), _subset(data, out)


def is_validation(number: int) -> bool:
    """Whether the feed of this number is a validation feed: every fourth is."""
    return number % VALIDATION_EVERY == VALIDATION_EVERY - 1


def is_few(data: Batches) -> bool:
    """Whether there are too few feeds for a validation feed among them."""
    return len(data) < VALIDATION_EVERY


def train_and_validation(data: Batches) -> tuple[Batches, Batches]:
    """Training and validation feeds; both are all feeds where there are fewer than `VALIDATION_EVERY`."""
    if is_few(data):
        return data, data
    validation = [is_validation(number) for number in range(len(data))]
    return _subset(data, [not held for held in validation]), _subset(data, validation)


def evenly_spaced(data: Batches, most: int) -> Batches:
    """At most `most` of the feeds, evenly spaced."""
    count = min(most, len(data))
    wanted = {number * len(data) // count for number in range(count)}
    return _subset(data, [number in wanted for number in range(len(data))])


def _subset(data: Batches, keep: Sequence[bool]) -> Batches:
    """The feeds whose entry in `keep` is True."""
    count = sum(keep)
    samples = round(data.samples * count / len(data))
    return replace(data, samples=samples, count=count, make=lambda: compress(data.make(), keep))


def _from_sources(
    found: Sequence[Source],
    inputs: Sequence[Input],
    batch: int | None,
    samples: int | None,
    *,
    skip_bad: bool,
) -> Batches:
    inputs = fed_inputs(inputs, [source.names for source in found])
    slicings(found, inputs, batch)  # names, shapes and types, before any value is read
    limit = _whole_feeds(samples, inputs)
    good = checked(found, inputs, batch=batch, skip_bad=skip_bad, samples=limit)
    if good.skipped and not good.count:
        raise BadData(f"all {good.skipped} samples have NaN or infinite values: repair the data")
    made = [(group, slicings(group, inputs, batch)) for group in grouped(good.sources, inputs, batch)]
    sliced = [[slicing for slicing in each if not slicing.constant] for _, each in made]
    counts = [each[0].feeds if each else 1 for each in sliced]
    used = sum(max((slicing.used for slicing in each), default=1) for each in sliced)
    left = sum(max((slicing.length - slicing.used for slicing in each), default=0) for each in sliced)
    size = max((slicing.rows for each in sliced for slicing in each), default=1)
    notes = [
        *good.notes,
        ignored_note((source.names for source in found), inputs),
        f"{left} samples left over: they don't fill a batch of {size}" if left else "",
        f"{used} samples are fed, in whole batches, where {samples} were asked for"
        if samples is not None and (used > samples or limit != samples)
        else "",
        "samples of equal shape are fed together, in the order of the files"
        if len(made) > 1 and batch
        else "",
    ]

    def make() -> Iterator[Feed]:
        return chain.from_iterable(
            feeds(group, each, count) for (group, each), count in zip(made, counts, strict=True)
        )

    note = _joined(notes)
    return Batches(kind="data", samples=used, count=sum(counts), note=note, inputs=inputs, make=make)


def _joined(notes: Iterable[str]) -> str:
    """The notes that aren't empty, as one; all but those about ignored arrays are logged as warnings, too."""
    found = [note for note in notes if note]
    for note in found:
        if not note.startswith("ignored"):
            LOGGER.warning(note)
    return "; ".join(found)


def _whole_feeds(samples: int | None, inputs: Sequence[Input]) -> int | None:
    """The largest number of samples up to `samples` that fills whole feeds, one feed at least."""
    sizes = [spec.rows for spec in inputs if spec.rows]
    if samples is None or not sizes:
        return samples
    return max(samples // max(sizes), 1) * max(sizes)


def _from_feeds(
    data: Iterable[Any], inputs: Sequence[Input], samples: int | None, *, skip_bad: bool
) -> Batches:
    found = iterables.read_feeds(data, inputs, samples, skip_bad=skip_bad)
    return Batches(
        kind="data",
        samples=sum(found.sizes),
        count=len(found.sizes),
        note=_joined(found.notes),
        inputs=found.inputs,
        make=found.make,
    )


def _fixed_shape(spec: Input, batch: int | None) -> tuple[int, ...]:
    """The input's shape with `batch` for a dynamic first axis. Raises UnknownShape for other dynamic axes."""
    if spec.shape is None:
        raise UnknownShape(f"input {spec.name} has no shape: give --shape {spec.name}=..., or --data")
    shape = [batch or 1 if dim is None and axis == 0 else dim for axis, dim in enumerate(spec.shape)]
    if None in shape:
        raise UnknownShape(
            f"input {spec.name} {spec.form} has an open axis: give --shape {spec.name}=..., or --data"
        )
    return tuple(dim for dim in shape if dim is not None)


def _noise_draw(spec: Input, shape: tuple[int, ...]) -> Callable[[np.random.Generator], Array]:
    """A function that draws noise for an input. Raises BadData for an input of another type than numbers."""
    dtype = spec.dtype
    if is_float(dtype):
        return lambda random: np.asarray(random.standard_normal(shape), dtype)
    if dtype.kind not in "biu":
        raise BadData(f"input {spec.name} holds {dtype}, for which there is no noise: give --data")
    low, high = _integer_range(spec)
    return lambda random: np.asarray(random.integers(low, high, shape), dtype)


def _integer_range(spec: Input) -> tuple[int, int]:
    """Bounds of integer noise: the least value, and the first one above the largest."""
    name = spec.name.lower()
    if any(word in name for word in MASK_NAMES):
        return 1, 2
    if spec.dtype.kind == "b" or any(word in name for word in FLAG_NAMES):
        return 0, 2
    return (0, 256) if spec.dtype == np.uint8 else (0, NOISE_ID_LIMIT)
