"""What models are fed: samples from files or from the caller, or seeded noise, one batch at a time.

A sample is one step along the first axis. A feed takes as many as the input's first axis says where the
model fixes it, and `batch` (or 1) where it is open. An array with one axis more than its input holds whole
feeds: `(samples, *shape of the input)`, which is how states and scalars are given. An array without axes,
for an input without axes, is the same in every feed.
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

# Integer noise stays below these: every vocabulary has so many entries, a flag has two, a mask hides nothing.
DRAWN_IDS = 16
FLAG_NAMES = ("type", "segment", "flag")
MASK_NAMES = ("mask",)
VALIDATION_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Feeds that can be gone through again and again, each a mapping from input name to array.

    kind: "data", or "noise": a verdict on noise is no verdict on data. samples: in all feeds together.
    note: what a report should say about them, or nothing. count: the number of feeds.
    """

    kind: Literal["data", "noise"]
    samples: int
    count: int
    note: str = ""
    make: Callable[[], Iterator[Feed]] = field(repr=False)

    def __iter__(self) -> Iterator[Feed]:
        """The feeds, from the first on."""
        return self.make()

    def __len__(self) -> int:
        """The number of feeds."""
        return self.count


def read(path: str | Path, inputs: Sequence[Input], *, batch: int | None = None) -> Batches:
    """Samples from an .npz file with arrays named as the inputs, a folder of such files, or an .npy file.

    An .npy file serves a model with one input. batch: samples per feed where the input's first axis is open.
    Raises BadData: wrong names, shapes or types, unequal numbers of samples, pickled objects, nothing at all.
    """
    found = readers.from_files(Path(path), [each.name for each in inputs])
    return _from_sources(found, inputs, batch)


def batches(data: Any, inputs: Sequence[Input], *, batch: int | None = None) -> Batches:  # noqa: ANN401
    """Whatever a caller calls data.

    data: Batches; a path, as for `read`; a mapping from input name to array, samples along the first axis, or
    one such array where the model has one input; or an iterable of feeds, each a mapping, an array, or an
    array per input. Iterators are used up and remembered. Raises BadData.
    """
    if isinstance(data, Batches):
        return data
    if isinstance(data, str | Path):
        return read(data, inputs, batch=batch)
    if isinstance(data, np.ndarray):
        data = _named((data,), inputs)
    if isinstance(data, Mapping):
        arrays = {name: np.asarray(array) for name, array in data.items()}
        return _from_sources([readers.from_memory(arrays)], inputs, batch)
    if isinstance(data, Iterable):
        return _from_feeds(data, inputs)
    raise BadData(f"data of type {type(data).__name__}: a path, arrays by name, or batches are needed")


def noise(inputs: Sequence[Input], *, samples: int, seed: int = 0, batch: int | None = None) -> Batches:
    """Seeded noise: normal for floats, small whole numbers for integers, ones for masks.

    batch: size of an open first axis, 1 if None. Raises UnknownShape where another axis is open, BadData for
    text inputs, which have no noise.
    """
    if samples < 1 or (batch is not None and batch < 1):
        raise BadData(f"{samples} samples of noise, batch {batch}: at least 1 is needed of both")
    shapes = [_closed(each, batch) for each in inputs]
    draws = [(each.name, _drawing(each, shape)) for each, shape in zip(inputs, shapes, strict=True)]
    size = _batch_size(shapes)
    count = ceil(samples / size)

    def make() -> Iterator[Feed]:
        for number in range(count):
            random = np.random.default_rng([seed, number])
            yield {name: draw(random) for name, draw in draws}

    note = (
        ""
        if all(is_float(each.dtype) for each in inputs)
        else f"integer inputs hold values below {DRAWN_IDS}"
    )
    return Batches(kind="noise", samples=count * size, count=count, make=make, note=note)


def split(data: Batches, held_out: float = 0.25) -> tuple[Batches, Batches]:
    """Calibration and held-out feeds; those are spread evenly, so that sorted samples fall on both sides.

    held_out: the fraction of feeds, one at least. A single feed can't be split: it is both, and says so.
    """
    if not 0 < held_out < 1:
        raise BadData(f"a held-out fraction of {held_out}: it must lie between 0 and 1")
    total = len(data)
    if total < 2:
        note = "; ".join(
            filter(None, (data.note, "one batch only: calibrated and judged on the same samples"))
        )
        return replace(data, note=note), replace(data, note=note)
    wanted = min(max(round(total * held_out), 1), total - 1)
    out = [(i + 1) * wanted // total > i * wanted // total for i in range(total)]
    return _only(data, [not held for held in out]), _only(data, out)


def is_validation(number: int) -> bool:
    """Whether a feed of those to learn from is one that checks what the others taught: every fourth is."""
    return number % VALIDATION_EVERY == VALIDATION_EVERY - 1


def train_and_validation(data: Batches) -> tuple[Batches, Batches]:
    """The feeds that teach and those that check; both are all, where there are too few to leave any out."""
    if len(data) < VALIDATION_EVERY:
        return data, data
    checks = [is_validation(number) for number in range(len(data))]
    return _only(data, [not check for check in checks]), _only(data, checks)


def evenly_spaced(data: Batches, most: int) -> Batches:
    """At most so many of the feeds, from all over them."""
    count = min(most, len(data))
    wanted = {number * len(data) // count for number in range(count)}
    return _only(data, [number in wanted for number in range(len(data))])


def _only(data: Batches, keep: Sequence[bool]) -> Batches:
    count = sum(keep)
    samples = round(data.samples * count / len(data))
    return replace(data, samples=samples, count=count, make=lambda: compress(data.make(), keep))


def _from_sources(found: Sequence[Source], inputs: Sequence[Input], batch: int | None) -> Batches:
    made = slicings(found, inputs, batch)
    lead = next((cut for cut in made if not cut.constant), None)
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
        return (check_feed(_named(feed, inputs), inputs) for feed in again)

    size = _batch_size(array.shape for array in next(make()).values())
    return Batches(kind="data", samples=count * size, count=count, make=make)


def _named(feed: Any, inputs: Sequence[Input]) -> Mapping[str, Array]:  # noqa: ANN401
    """A feed by name: arrays that come without names stand in the order of the inputs."""
    if isinstance(feed, Mapping):
        return feed
    arrays = list(feed) if isinstance(feed, tuple | list) else [feed]
    if len(arrays) != len(inputs):
        needed = ", ".join(each.name for each in inputs)
        raise BadData(f"{len(arrays)} arrays without names for the inputs {needed}: name them")
    return {each.name: np.asarray(array) for each, array in zip(inputs, arrays, strict=True)}


def _closed(each: Input, batch: int | None) -> tuple[int, ...]:
    if each.shape is None:
        raise UnknownShape(f"input {each.name} has no shape: give --shape {each.name}=..., or --data")
    shape = [batch or 1 if dim is None and axis == 0 else dim for axis, dim in enumerate(each.shape)]
    if None in shape:
        raise UnknownShape(
            f"input {each.name} {each.form} has an open axis: give --shape {each.name}=..., or --data"
        )
    return tuple(dim for dim in shape if dim is not None)


def _batch_size(shapes: Iterable[tuple[int, ...]]) -> int:
    """The first axis where all arrays with two axes or more agree; otherwise a feed is one sample."""
    sizes = {shape[0] for shape in shapes if len(shape) > 1}
    return max(sizes.pop(), 1) if len(sizes) == 1 else 1


def _drawing(each: Input, shape: tuple[int, ...]) -> Callable[[np.random.Generator], Array]:
    dtype = each.dtype
    if is_float(dtype):
        return lambda random: np.asarray(random.standard_normal(shape), dtype)
    if dtype.kind not in "biu":
        raise BadData(f"input {each.name} holds {dtype}, for which there is no noise: give --data")
    low, high = _range(each)
    return lambda random: np.asarray(random.integers(low, high, shape), dtype)


def _range(each: Input) -> tuple[int, int]:
    """Whole numbers, from the first up to but without the second."""
    name = each.name.lower()
    if any(word in name for word in MASK_NAMES):
        return 1, 2
    if each.dtype.kind == "b" or any(word in name for word in FLAG_NAMES):
        return 0, 2
    return (0, 256) if each.dtype == np.uint8 else (0, DRAWN_IDS)
