"""Batches of a model's input data: samples from files or from the caller, or seeded noise.

A sample is one index along the first axis. A feed has as many samples as the input's first axis where the
model fixes it, else `batch` (or 1). An array with one axis more than its input holds complete feeds,
`(samples, *shape of the input)`: the form for states and scalars. An array without axes, for an input without
axes, is the same in every feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelsurgeon.data import readers
from modelsurgeon.data.feeds import Array, Feed, Input, check_feed, feeds, is_float, slicings
from modelsurgeon.data.readers import Source
from modelsurgeon.errors import BadData, UnknownShape

__all__ = ["Array", "Batches", "Feed", "Input", "batches", "noise", "read", "split"]

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


def read(path: str | Path, inputs: Sequence[Input], *, batch: int | None = None) -> Batches:
    """Samples from an .npz file with arrays named as the inputs, a folder of such files, or an .npy file.

    An .npy file serves a model with one input. batch: samples per feed where the input's first axis is open.
    Raises BadData for wrong names, shapes or types, unequal numbers of samples, pickled objects and no
    samples.
    """
    found = readers.from_files(Path(path), [spec.name for spec in inputs])
    return _from_sources(found, inputs, batch)


def batches(data: Any, inputs: Sequence[Input], *, batch: int | None = None) -> Batches:  # noqa: ANN401
    """Batches from any form of data.

    data: Batches; a path, as for `read`; a mapping from input name to array, samples along the first axis, or
    one such array where the model has one input; or an iterable of feeds, each a mapping, an array, or an
    array per input. An iterator is read into memory. Raises BadData as `read`, or for other types.
    """
    if isinstance(data, Batches):
        return data
    if isinstance(data, str | Path):
        return read(data, inputs, batch=batch)
    if isinstance(data, np.ndarray):
        data = _by_name((data,), inputs)
    if isinstance(data, Mapping):
        arrays = {name: np.asarray(array) for name, array in data.items()}
        return _from_sources([readers.from_memory(arrays)], inputs, batch)
    if isinstance(data, Iterable):
        return _from_feeds(data, inputs)
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


def _from_sources(found: Sequence[Source], inputs: Sequence[Input], batch: int | None) -> Batches:
    made = slicings(found, inputs, batch)
    lead = next((slicing for slicing in made if not slicing.constant), None)
    count, samples = (lead.feeds, lead.used) if lead else (1, 1)
    left = lead.length - samples if lead else 0
    note = f"{left} samples left over: they don't fill a batch of {lead.rows}" if lead and left else ""
    return Batches(
        kind="data", samples=samples, count=count, note=note, make=lambda: feeds(found, made, count)
    )


def _from_feeds(data: Iterable[Any], inputs: Sequence[Input]) -> Batches:
    again = data if hasattr(data, "__len__") and not isinstance(data, Iterator) else list(data)
    count = len(again)  # type: ignore[arg-type]
    if not count:
        raise BadData("the data holds no batch: one at least is needed")

    def make() -> Iterator[Feed]:
        return (check_feed(_by_name(feed, inputs), inputs) for feed in again)

    size = _batch_size(array.shape for array in next(make()).values())
    return Batches(kind="data", samples=count * size, count=count, make=make)


def _by_name(feed: Any, inputs: Sequence[Input]) -> Mapping[str, Array]:  # noqa: ANN401
    """A feed by input name; arrays without names are in the order of the inputs. Raises BadData."""
    if isinstance(feed, Mapping):
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
