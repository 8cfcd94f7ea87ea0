"""Checks of the values of samples: what a model can't be fed, and ranges that it was hardly trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelsurgeon.data.feeds import Array, Input, cast, is_float
from modelsurgeon.data.readers import Header, Source
from modelsurgeon.errors import BadData

CHUNK = 64  # samples that are checked at once
LARGEST_BYTE = 255


@dataclass(frozen=True, kw_only=True)
class Range:
    """Least and largest finite value of an array, whether all are whole numbers, and its dtype."""

    least: float
    largest: float
    whole: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Array) -> Range | None:
        """The range of an array of numbers; None where it has no finite value."""
        values = array[np.isfinite(array)] if is_float(array.dtype) else array.reshape(-1)
        if not values.size or array.dtype.kind in "bUSO":
            return None
        whole = not is_float(array.dtype) or bool((values == np.trunc(values)).all())
        return cls(least=float(values.min()), largest=float(values.max()), whole=whole, dtype=array.dtype)

    def joined(self, other: Range | None) -> Range:
        """The range of both arrays."""
        if other is None:
            return self
        return replace(
            self,
            least=min(self.least, other.least),
            largest=max(self.largest, other.largest),
            whole=self.whole and other.whole,
        )


def bad_rows(array: Array, to: Input) -> Array:
    """Whether each sample has a value that is NaN or infinite, or becomes so in the input's dtype: `(n,)`."""
    flat = array.reshape(len(array), -1)
    if not is_float(array.dtype):
        return np.zeros(len(array), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        made = flat.astype(to.dtype) if is_float(to.dtype) else flat
    bad: Array = ~np.isfinite(made).all(axis=1)
    return bad


def refusal(name: str, where: str, array: Array, to: np.dtype[Any]) -> BadData:
    """The error for a sample that has values which aren't finite."""
    with np.errstate(invalid="ignore"):
        lost = "NaN or infinite values" if not np.isfinite(array).all() else f"values that {to} can't hold"
    return BadData(f"{name} has {lost} in {where}: repair the data, or skip such samples (--skip-bad)")


def range_note(name: str, found: Range | None, to: Input) -> str:
    """A warning where whole numbers such as pixels are fed to a float input; "" where nothing is odd."""
    if found is None or not found.whole or not is_float(to.dtype):
        return ""
    stored_whole = not is_float(found.dtype)
    pixels = found.least >= 0 and LARGEST_BYTE // 2 < found.largest <= LARGEST_BYTE
    if max(abs(found.least), abs(found.largest)) <= 1 or not (stored_whole or pixels):
        return ""
    return (
        f"warning: {name} holds whole numbers from {found.least:g} to {found.largest:g} ({found.dtype}) and "
        f"the model takes {to.dtype}: scale them as in training, unless it was trained on such numbers"
    )


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Sources without the samples that are skipped. notes: for the report. skipped: number of samples."""

    sources: Sequence[Source]
    notes: Sequence[str]
    skipped: int


def checked(
    found: Sequence[Source], inputs: Sequence[Input], *, skip_bad: bool, samples: int | None = None
) -> Checked:
    """The sources, read once: without bad samples, and with at most `samples`.

    Raises BadData for a bad sample unless `skip_bad`, and for numbers that an input's dtype can't hold.
    """
    ranges: dict[str, Range] = {}
    kept: list[Source] = []
    left, skipped = samples, 0
    for source in found:
        keep, dropped = _good_samples(source, inputs, ranges, skip_bad=skip_bad, most=left)
        skipped += dropped
        kept.append(source if keep is None else _with_samples(source, keep))
        if left is not None and keep is not None:
            left -= len(keep)
            if left <= 0:
                break
    notes = [range_note(spec.name, ranges.get(spec.name), spec) for spec in inputs]
    if skipped:
        notes.append(skip_note(skipped))
    return Checked(sources=kept, notes=[note for note in notes if note], skipped=skipped)


def skip_note(count: int) -> str:
    """How many samples were skipped, as text."""
    return f"{count} bad sample{'s' if count > 1 else ''} skipped: NaN or infinite values"


def _good_samples(
    source: Source,
    inputs: Sequence[Input],
    ranges: dict[str, Range],
    *,
    skip_bad: bool,
    most: int | None,
) -> tuple[Array | None, int]:
    """Indices of at most `most` good samples, or None where inputs differ in number; and how many are bad."""
    arrays = {spec.name: source.load(spec.name) for spec in inputs}
    lengths = {len(array) for array in arrays.values() if array.ndim}
    aligned = len(lengths) == 1
    keep: list[int] = []
    dropped = 0
    for start in range(0, max(lengths, default=1), CHUNK):
        bad = np.zeros(CHUNK, bool)
        for spec in inputs:
            whole = arrays[spec.name]
            part = whole[start : start + CHUNK] if whole.ndim else whole.reshape(1)
            if not len(part) or (part.dtype.kind not in "biuf" and not is_float(part.dtype)):
                continue
            rows = bad_rows(part, spec)
            if rows.any() and not (skip_bad and aligned and whole.ndim):
                first = int(rows.argmax())
                place = f"sample {start + first} of {source.where}" if whole.ndim else source.where
                raise refusal(spec.name, place, part[first], spec.dtype)
            cast(part[~rows], spec)
            bad[: len(rows)] |= rows
            if (new := Range.of(part)) is not None:
                ranges[spec.name] = new.joined(ranges.get(spec.name))
        if aligned:
            size = min(CHUNK, max(lengths) - start)
            keep += (np.flatnonzero(~bad[:size]) + start).tolist()
            dropped += int(bad[:size].sum())
            if most is not None and len(keep) >= most:
                return np.array(keep[:most], int), dropped
    return (np.array(keep, int) if aligned else None), dropped


def _with_samples(source: Source, keep: Array) -> Source:
    """The source with these samples alone."""
    axes = {name: len(header.shape) for name, header in source.headers.items()}
    prefix = bool((keep == np.arange(len(keep))).all())
    chosen: Any = slice(0, len(keep)) if prefix else keep

    def load(name: str) -> Array:
        array = source.load(name)
        return array[chosen] if axes[name] else array

    def header(of: Header) -> Header:
        return replace(of, shape=(len(keep), *of.shape[1:])) if of.shape else of

    headers: Mapping[str, Header] = {name: header(of) for name, of in source.headers.items()}
    return replace(source, headers=headers, load=load)
