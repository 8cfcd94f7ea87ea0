"""Batches of a model's input data: samples from files or from the caller, or seeded noise.

A sample is one index along the first axis. A feed has as many samples as the input's first axis where the
model fixes it, else `batch` (or 1). An array with one axis more than its input holds complete feeds,
`(samples, *shape of the input)`: the form for states and scalars. An array without axes, for an input without
axes, is the same in every feed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress, islice
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelsurgeon.data import readers
from modelsurgeon.data.feeds import Array, Feed, Input, check_feed, feeds, grouped, is_float, slicings
from modelsurgeon.data.readers import Source
from modelsurgeon.data.values import Range, bad_rows, checked, range_note, refusal, skip_note
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
    count: number of feeds. note: a remark for reports, or "". make: returns an iterator over the feeds.
    """

    kind: Literal["data", "noise"]
    samples: int
    count: int
    note: str = ""
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
    """
    found = readers.from_files(Path(path), [spec.name for spec in inputs])
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
    if isinstance(data, np.ndarray | Mapping):
        arrays = {name: np.asarray(array) for name, array in _by_name(data, inputs).items()}
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
    size = _batch_size(shapes)
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
    return Batches(kind="noise", samples=count * size, count=count, make=make, note=note)


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
    slicings(found, inputs, batch)  # names, shapes and types, before any value is read
    good = checked(found, inputs, skip_bad=skip_bad, samples=_whole_feeds(samples, inputs))
    if good.skipped and not any(
        source.headers[spec.name].shape[:1] != (0,) for source in good.sources for spec in inputs
    ):
        raise BadData(f"all {good.skipped} samples have NaN or infinite values: repair the data")
    made = [(group, slicings(group, inputs, batch)) for group in grouped(good.sources, inputs)]
    leads = [next((slicing for slicing in each if not slicing.constant), None) for _, each in made]
    counts = [lead.feeds if lead else 1 for lead in leads]
    used = [lead.used if lead else 1 for lead in leads]
    left = sum(lead.length - lead.used for lead in leads if lead)
    size = max((lead.rows for lead in leads if lead), default=1)
    notes = [
        *good.notes,
        _ignored_note((source.names for source in found), inputs),
        f"{left} samples left over: they don't fill a batch of {size}" if left else "",
        "samples of equal shape are fed together, in the order of the files"
        if len(made) > 1 and batch
        else "",
    ]

    def make() -> Iterator[Feed]:
        return chain.from_iterable(
            feeds(group, each, count) for (group, each), count in zip(made, counts, strict=True)
        )

    return Batches(kind="data", samples=sum(used), count=sum(counts), note=_joined(notes), make=make)


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


def _ignored_note(names: Iterable[Collection[str]], inputs: Sequence[Input]) -> str:
    """Which arrays are no inputs of the model, as text; "" where all are."""
    extra = {name for each in names for name in each} - {spec.name for spec in inputs}
    return (
        f"ignored, since no input that must be fed has this name: {', '.join(sorted(extra))}" if extra else ""
    )


def _from_feeds(
    data: Iterable[Any], inputs: Sequence[Input], samples: int | None, *, skip_bad: bool
) -> Batches:
    again = data if hasattr(data, "__len__") and not isinstance(data, Iterator) else list(data)
    if not len(again):  # type: ignore[arg-type]
        raise BadData("the data holds no batch: one at least is needed")

    def make() -> Iterator[Feed]:
        return (feed for feed, _ in _good_feeds(again, inputs, samples, skip_bad=skip_bad))

    sizes, skipped, ranges, extra = [], 0, dict[str, Range](), set[str]()
    for feed, dropped in _good_feeds(again, inputs, samples, skip_bad=skip_bad):
        sizes.append(_batch_size(array.shape for array in feed.values()))
        skipped = dropped
    for item in islice(again, len(sizes)):
        named = _by_name(item, inputs)
        extra |= set(named)
        for spec in inputs:
            if (new := Range.of(np.asarray(named[spec.name]))) is not None:
                ranges[spec.name] = new.joined(ranges.get(spec.name))
    if not sizes:
        raise BadData("all samples have NaN or infinite values: repair the data")
    notes = [
        *(range_note(spec.name, ranges.get(spec.name), spec) for spec in inputs),
        skip_note(skipped) if skipped else "",
        _ignored_note([extra], inputs),
    ]
    return Batches(kind="data", samples=sum(sizes), count=len(sizes), note=_joined(notes), make=make)


def _good_feeds(
    data: Iterable[Any], inputs: Sequence[Input], samples: int | None, *, skip_bad: bool
) -> Iterator[tuple[Feed, int]]:
    """At most `samples` samples as feeds, with the number skipped so far. Raises BadData for a bad one."""
    held = skipped = 0
    for number, item in enumerate(data):
        named = _by_name(item, inputs)
        feed = check_feed(_finite_or_raw(named, inputs), inputs)
        size = _batch_size(array.shape for array in feed.values())
        rows = np.zeros(size, bool)
        for spec in inputs:
            array = feed[spec.name]
            axis = array.ndim > 0 and len(array) == size
            bad = bad_rows(array if axis else array.reshape(1, -1), spec)
            if bad.any() and not skip_bad:
                place = f"sample {int(bad.argmax())} of batch {number}"
                raise refusal(spec.name, place, array, spec.dtype)
            rows |= bad if axis else bad.any()
        may_cut = all(spec.rows is None and feed[spec.name].shape[:1] == (size,) for spec in inputs)
        if rows.any():
            skipped += int(rows.sum()) if may_cut else size
            feed = {name: array[~rows] for name, array in feed.items()} if may_cut else {}
            size = int((~rows).sum()) if may_cut else 0
        if samples is not None and held + size > samples:
            if may_cut and samples > held:
                feed, size = {name: array[: samples - held] for name, array in feed.items()}, samples - held
            elif held:
                return
        if size:
            held += size
            yield feed, skipped
        if samples is not None and held >= samples:
            return


def _finite_or_raw(feed: Mapping[str, Array], inputs: Sequence[Input]) -> Mapping[str, Array]:
    """The feed with float64 that overflows the input's dtype as infinite, so that its sample can be named."""
    made = dict(feed)
    for spec in inputs:
        array = np.asarray(made[spec.name]) if spec.name in made else None
        if array is not None and is_float(array.dtype) and is_float(spec.dtype):
            with np.errstate(over="ignore", invalid="ignore"):
                made[spec.name] = array.astype(spec.dtype, order="C")
    return made


def _by_name(feed: Any, inputs: Sequence[Input]) -> Mapping[str, Array]:  # noqa: ANN401
    """A feed by input name; arrays without names are in the order of the inputs. Raises BadData."""
    if isinstance(feed, Mapping):
        for name in feed:
            if not isinstance(name, str):
                raise BadData(f"the data has the name {name!r}: names of inputs are texts")
        return feed
    arrays = list(feed) if isinstance(feed, tuple | list) else [feed]
    if len(arrays) != len(inputs):
        needed = ", ".join(spec.name for spec in inputs)
        raise BadData(f"{len(arrays)} arrays without names for the inputs {needed}: name them")
    return {spec.name: np.asarray(array) for spec, array in zip(inputs, arrays, strict=True)}


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


def _batch_size(shapes: Iterable[tuple[int, ...]]) -> int:
    """Size of the first axis where all arrays of two or more axes agree, else 1."""
    sizes = {shape[0] for shape in shapes if len(shape) > 1}
    return max(sizes.pop(), 1) if len(sizes) == 1 else 1


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
