"""Checks of the values of samples: what a model can't be fed, and ranges that it was hardly trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelsurgeon.data.feeds import (
    Array,
    FeedSlicing,
    Input,
    are_aligned,
    cast,
    is_float,
    source_slicings,
)
from modelsurgeon.data.readers import Header, Source
from modelsurgeon.errors import BadData

CHUNK = 64  # samples that are checked at once
NARROW_BITS = 16  # integers so narrow hold pixels or audio rather than counts
SIGNED_BYTE, UNSIGNED_BYTE = 64, 128  # largest magnitudes above which numbers fill half of these at least
SMALL_SAMPLE = 3  # values such as the sizes of an image
# Words in the names of inputs that take whole numbers by nature.
WHOLE_BY_NAME = re.compile(
    r"(?<![a-z])(count|id|index|indice|label|len|length|mask|position|shape|size|token)s?(?![a-z])"
)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Least and largest value of an array of whole numbers. dtype: as stored. size: values per sample."""

    least: float
    largest: float
    dtype: np.dtype[Any]
    size: int

    @classmethod
    def of(cls, array: Array) -> Range | None:
        """The range of samples of numbers; None where one of the finite values isn't whole."""
        if array.dtype.kind not in "iuf" and not is_float(array.dtype):
            return None
        values = array
        if is_float(array.dtype):
            values = array if np.isfinite(array).all() else array[np.isfinite(array)]
            if not (values == np.trunc(values)).all():
                return None
        if not values.size:
            return None
        size = array[0].size if array.ndim else 1
        return cls(least=float(values.min()), largest=float(values.max()), dtype=array.dtype, size=size)

    def joined(self, other: Range) -> Range:
        """The range of both arrays."""
        least, largest = min(self.least, other.least), max(self.largest, other.largest)
        return replace(self, least=least, largest=largest, size=max(self.size, other.size))


class Ranges:
    """The ranges of the inputs that hold whole numbers alone, over all arrays added so far."""

    def __init__(self) -> None:
        """Start without arrays."""
        self._found: dict[str, Range] = {}
        self._broken: set[str] = set()

    def add(self, spec: Input, array: Array) -> None:
        """Take an array of samples of an input into account."""
        if spec.name in self._broken or not is_float(spec.dtype) or spec.made_whole or not array.size:
            return
        new = Range.of(array)
        if new is None:
            self._broken.add(spec.name)
        else:
            self._found[spec.name] = new.joined(self._found.get(spec.name, new))

    def notes(self, inputs: Sequence[Input]) -> list[str]:
        """Warnings where whole numbers such as pixels are fed to float inputs."""
        whole = [
            (spec, self._found[spec.name])
            for spec in inputs
            if spec.name in self._found and spec.name not in self._broken
        ]
        return [
            f"warning: {spec.name} holds whole numbers from {found.least:g} to {found.largest:g} "
            f"({found.dtype}) and the model takes {spec.dtype}: scale them as in training, unless it was "
            "trained on such numbers"
            for spec, found in whole
            if _is_unscaled(spec.name, found)
        ]


def _is_unscaled(name: str, found: Range) -> bool:
    """Whether whole numbers look like pixels or audio, and not like ids, counts, sizes, flags or classes."""
    reach = max(abs(found.least), abs(found.largest))
    if found.dtype.kind in "iu" and found.dtype.itemsize * 8 <= NARROW_BITS:
        return reach > 1
    fills = reach >= (SIGNED_BYTE if found.least < 0 else UNSIGNED_BYTE)
    by_nature = found.size <= SMALL_SAMPLE or WHOLE_BY_NAME.search(name.lower())
    return fills and found.least < found.largest and not by_nature


def bad_rows(array: Array, to: Input) -> Array:
    """Whether each sample has a value that is NaN or infinite, or becomes so in the input's dtype: `(n,)`."""
    if not is_float(array.dtype):
        return np.zeros(len(array), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(to.dtype, copy=False) if is_float(to.dtype) else array
    if np.isfinite(made).all():
        return np.zeros(len(array), bool)
    bad: Array = ~np.isfinite(made.reshape(len(array), -1)).all(axis=1)
    return bad


def refusal(name: str, where: str, array: Array, to: np.dtype[Any]) -> BadData:
    """The error for a sample that has values which aren't finite."""
    with np.errstate(invalid="ignore"):
        lost = "NaN or infinite values" if not np.isfinite(array).all() else f"values that {to} can't hold"
    return BadData(f"{name} has {lost} in {where}: repair the data, or skip such samples (--skip-bad)")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Sources without the samples that are skipped. notes: for the report. count, skipped: samples."""

    sources: Sequence[Source]
    notes: Sequence[str]
    count: int
    skipped: int


def checked(
    found: Sequence[Source],
    inputs: Sequence[Input],
    *,
    batch: int | None = None,
    skip_bad: bool,
    samples: int | None = None,
) -> Checked:
    """The sources, read once: without bad samples, and with at most `samples`.

    Where inputs differ in their numbers of samples, whole feeds are skipped and counted. Raises BadData for a
    bad sample unless `skip_bad`, and for numbers that an input's dtype can't hold.
    """
    ranges = Ranges()
    kept: list[Source] = []
    left, count, skipped = samples, 0, 0
    for source in found:
        made = source_slicings(source, inputs, batch)
        good = _good_samples(source, made, ranges, skip_bad=skip_bad, most=left)
        count += good.count
        skipped += good.skipped
        kept.append(source if good.keep is None else _with_samples(source, good.keep))
        if left is not None:
            left -= good.count
            if left <= 0:
                break
    notes = [*ranges.notes(inputs), *([skip_note(skipped)] if skipped else [])]
    return Checked(sources=kept, notes=notes, count=count, skipped=skipped)


def skip_note(count: int) -> str:
    """How many samples were skipped, as text."""
    return f"{count} bad sample{'s' if count > 1 else ''} skipped: NaN or infinite values"


@dataclass(frozen=True, kw_only=True)
class _Good:
    """Good samples of a source. keep: their indices by array, None for all; count: their number."""

    keep: Mapping[str, Array] | None
    count: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class _Units:
    """What is kept or skipped as one: a sample, or a whole feed where inputs differ in numbers of samples.

    sliced: the arrays that have samples. steps: samples of each in a unit. total: number of units.
    """

    sliced: Sequence[FeedSlicing]
    steps: Sequence[int]
    total: int

    @classmethod
    def of(cls, made: Iterable[FeedSlicing]) -> _Units:
        sliced = [slicing for slicing in made if not slicing.constant]
        if not sliced:
            return cls(sliced=[], steps=[1], total=1)
        if are_aligned(sliced):
            return cls(sliced=sliced, steps=[1] * len(sliced), total=sliced[0].length)
        steps = [slicing.rows for slicing in sliced]
        return cls(sliced=sliced, steps=steps, total=min(slicing.feeds for slicing in sliced))

    @property
    def step(self) -> int:
        """Samples in a unit, by the input that has most."""
        return max(self.steps)

    def samples(self, units: Iterable[int]) -> int:
        """Number of samples in units."""
        end = max((slicing.length for slicing in self.sliced), default=1)
        return sum(min(self.step, end - unit * self.step) for unit in units)

    def indices(self, units: Sequence[int]) -> dict[str, Array]:
        """The indices of the samples in units, by array."""
        found = {}
        for slicing, step in zip(self.sliced, self.steps, strict=True):
            rows = (np.array(units, int)[:, None] * step + np.arange(step)).reshape(-1)
            found[slicing.input.name] = rows[rows < slicing.length]
        return found


def _good_samples(
    source: Source,
    made: Sequence[FeedSlicing],
    ranges: Ranges,
    *,
    skip_bad: bool,
    most: int | None,
) -> _Good:
    """At most `most` good samples of a source. Raises BadData for a bad one unless `skip_bad`."""
    arrays = {slicing.input.name: source.load(slicing.input.name) for slicing in made}
    for slicing in (slicing for slicing in made if slicing.constant):
        _check_constant(arrays[slicing.input.name], slicing.input, source.where)
        ranges.add(slicing.input, arrays[slicing.input.name])
    units = _Units.of(made)
    limit = units.total if most is None else max(most // units.step, 1)
    keep: list[int] = []
    dropped: list[int] = []
    chunk = max(CHUNK // units.step, 1)
    for start in range(0, units.total, chunk):
        bad = np.zeros(min(chunk, units.total - start), bool)
        for slicing, step in zip(units.sliced, units.steps, strict=True):
            part = arrays[slicing.input.name][start * step : (start + len(bad)) * step]
            rows = _bad_samples(part, slicing.input, start * step, "" if skip_bad else source.where)
            bad[np.flatnonzero(rows) // step] = True
            ranges.add(slicing.input, part[~rows] if rows.any() else part)
        keep += (np.flatnonzero(~bad) + start).tolist()
        dropped += (np.flatnonzero(bad) + start).tolist()
        if len(keep) >= limit:
            dropped = [unit for unit in dropped if unit < keep[limit - 1]]
            break
    keep = keep[:limit]
    indices = units.indices(keep) if len(keep) < units.total else None
    return _Good(keep=indices, count=units.samples(keep), skipped=units.samples(dropped))


def _check_constant(array: Array, spec: Input, where: str) -> None:
    """Raise BadData for a value for all samples that the model can't be fed."""
    if _is_number(array) and bad_rows(array.reshape(1, -1), spec).any():
        raise refusal(spec.name, where, array, spec.dtype)
    cast(array, spec)


def _bad_samples(part: Array, spec: Input, start: int, where: str) -> Array:
    """Whether each sample is bad. Raises BadData for a bad one where `where` is given."""
    rows = bad_rows(part, spec) if _is_number(part) else np.zeros(len(part), bool)
    if where and rows.any():
        first = int(rows.argmax())
        raise refusal(spec.name, f"sample {start + first} of {where}", part[first], spec.dtype)
    if _is_number(part) and not (is_float(part.dtype) and is_float(spec.dtype)):
        cast(part[~rows], spec)
    return rows


def _is_number(array: Array) -> bool:
    return array.size > 0 and (array.dtype.kind in "biuf" or is_float(array.dtype))


def _with_samples(source: Source, keep: Mapping[str, Array]) -> Source:
    """The source with these samples of its arrays alone, by name."""
    chosen = {name: _index(rows) for name, rows in keep.items()}

    def load(name: str) -> Array:
        array = source.load(name)
        return array[chosen[name]] if name in chosen else array

    def header(name: str, of: Header) -> Header:
        return replace(of, shape=(len(keep[name]), *of.shape[1:])) if name in keep else of

    headers: Mapping[str, Header] = {name: header(name, of) for name, of in source.headers.items()}
    return replace(source, headers=headers, load=load)


def _index(rows: Array) -> Any:  # noqa: ANN401 - a slice or indices
    """The rows as an index: a slice, which copies nothing, where they are the first ones."""
    return slice(0, len(rows)) if bool((rows == np.arange(len(rows))).all()) else rows
