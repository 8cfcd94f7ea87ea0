"""How arrays of samples are cut into the feeds of a model, and whether they fit its inputs at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.data.readers import Header, Source
from modelsurgeon.errors import BadData

Array = NDArray[Any]
Feed = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a model. A dimension that the model leaves open is None; so is a shape of any rank."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    @property
    def form(self) -> str:
        """The shape in words, open dimensions as `?`."""
        return "of any rank" if self.shape is None else shape_text(self.shape)

    @property
    def rows(self) -> int | None:
        """Samples that the model takes at once; None where that is open."""
        return self.shape[0] if self.shape else None

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is a feed."""
        return self.shape is None or _fits(shape, self.shape)


@dataclass(frozen=True, kw_only=True)
class FeedSlicing:
    """How the arrays for one input become feeds.

    length: samples in all files together. rows: samples per feed. ragged: the last feed may have fewer.
    whole: each sample is a whole feed. constant: the array as it is goes into every feed.
    """

    input: Input
    length: int = 0
    rows: int = 1
    ragged: bool = False
    whole: bool = False
    constant: bool = False

    @property
    def feeds(self) -> int:
        """How many feeds there are."""
        return ceil(self.length / self.rows) if self.ragged else self.length // self.rows

    @property
    def used(self) -> int:
        """Samples that get into a feed."""
        return min(self.length, self.feeds * self.rows)

    def arrays(self, found: Sequence[Source]) -> Iterator[Array]:
        """The input's array of each feed, in order; one file at a time is held."""
        loaded = (source.load(self.input.name) for source in found)
        if self.constant:
            return repeat(cast(next(loaded), self.input))
        pieces = _pieces(loaded, self.rows)
        return (cast(piece[0] if self.whole else piece, self.input) for piece in pieces)


def slicings(found: Sequence[Source], inputs: Sequence[Input], batch: int | None) -> list[FeedSlicing]:
    """One cut per input. Raises BadData where the sources don't hold what the inputs need."""
    for source in found:
        _check_names(source, inputs)
    if batch is not None:
        _check_batch(batch, inputs)
    made = [_slicing(found, each, batch) for each in inputs]
    _check_counts([cut for cut in made if not cut.constant], found[0].where)
    return made


def feeds(found: Sequence[Source], made: Sequence[FeedSlicing], count: int) -> Iterator[Feed]:
    """`count` feeds, each with an array per input."""
    streams = [cut.arrays(found) for cut in made]
    for _ in range(count):
        yield {cut.input.name: next(stream) for cut, stream in zip(made, streams, strict=True)}


def check_feed(feed: Mapping[str, Array], inputs: Sequence[Input]) -> Feed:
    """One feed from the caller, in the types that the model needs. Raises BadData."""
    missing = [each.name for each in inputs if each.name not in feed]
    if missing:
        raise BadData(f"a batch lacks {_names(missing)}: it has {_names(feed)}")
    checked = {each.name: np.asarray(feed[each.name]) for each in inputs}
    for each in inputs:
        array = checked[each.name]
        if not each.takes(array.shape):
            raise BadData(
                f"{each.name} has shape {shape_text(array.shape)} in a batch: {each.form} is needed"
            )
        _check_type(array.dtype, each, "a batch")
    return {each.name: cast(checked[each.name], each) for each in inputs}


def cast(array: Array, to: Input) -> Array:
    """The array in the input's type: floats may be rounded, all else must keep its value. Raises BadData."""
    if array.dtype == to.dtype:
        return np.ascontiguousarray(array).reshape(array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        made: Array = array.astype(to.dtype)
    if is_float(array.dtype) and is_float(to.dtype):
        lost = bool((np.isfinite(array) & ~np.isfinite(made)).any())
    else:
        lost = not np.array_equal(made.astype(array.dtype), array)
    if lost:
        raise BadData(
            f"{to.name} has values that {to.dtype} can't hold: the model needs {to.dtype}, convert it"
        )
    return made


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values are floating point; bfloat16 and float8 are, though numpy doesn't know."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def shape_text(shape: Iterable[int | None]) -> str:
    """A shape in words, open dimensions as `?`: `[1, 3, ?]`."""
    return f"[{', '.join(map(_dim, shape))}]"


def _dim(size: int | None) -> str:
    return "?" if size is None else str(size)


def _slicing(found: Sequence[Source], each: Input, batch: int | None) -> FeedSlicing:
    forms = [_form(source.headers[each.name], each, source.where) for source in found]
    if len(set(forms)) > 1:
        raise BadData(
            f"{each.name} has {' and '.join(sorted(set(forms)))} in different files: one form is needed"
        )
    if forms[0] == "no axes":
        return FeedSlicing(input=each, constant=True)
    length = sum(source.headers[each.name].shape[0] for source in found)
    if forms[0] == "an axis more":
        return FeedSlicing(input=each, length=length, whole=True)
    return FeedSlicing(input=each, length=length, rows=each.rows or batch or 1, ragged=each.rows is None)


def _form(header: Header, each: Input, where: str) -> str:
    """Which of the three forms an array has: as the input, an axis more, no axes."""
    _check_type(header.dtype, each, where)
    shape = header.shape
    needed = tuple(None for _ in shape) if each.shape is None else each.shape
    if not shape and not needed:
        return "no axes"
    if len(shape) == len(needed) and _fits(shape[1:], needed[1:]):
        return "as many axes as the input"
    if len(shape) == len(needed) + 1 and _fits(shape[1:], needed):
        return "an axis more"
    samples = f"[{', '.join(['N', *map(_dim, needed[1:])])}]"
    raise BadData(
        f"{each.name} in {where} has shape {shape_text(shape)}: {samples} is needed, N samples first"
    )


def _fits(shape: Sequence[int], needed: Sequence[int | None]) -> bool:
    return len(shape) == len(needed) and all(n in (None, s) for s, n in zip(shape, needed, strict=True))


def _check_names(source: Source, inputs: Sequence[Input]) -> None:
    missing = [each.name for each in inputs if each.name not in source.headers]
    if missing:
        has = _names(source.names) or "nothing"
        raise BadData(
            f"{source.where} lacks {_names(missing)}, it has {has}: name arrays as the model's inputs"
        )


def _check_batch(batch: int, inputs: Sequence[Input]) -> None:
    if batch < 1:
        raise BadData(f"a batch of {batch}: at least 1 is needed")
    fixed = {each.rows for each in inputs if each.shape != ()}
    if fixed and None not in fixed and batch not in fixed:
        raise BadData(
            f"a batch of {batch}, and the model's is fixed at {max(filter(None, fixed))}: leave it out"
        )


def _check_counts(made: Sequence[FeedSlicing], where: str) -> None:
    for cut in made:
        if cut.length == 0:
            raise BadData(f"{cut.input.name} in {where} has no samples: one at least is needed")
        if cut.feeds == 0:
            raise BadData(
                f"{cut.input.name} in {where} has {cut.length} samples: the model takes {cut.rows} at once"
            )
    for first, cut in pairwise(made):
        if cut.feeds != first.feeds:
            raise BadData(
                f"{where} has {first.length} samples for {first.input.name} and {cut.length} "
                f"for {cut.input.name}: equal numbers are needed"
            )


def _check_type(dtype: np.dtype[Any], each: Input, where: str) -> None:
    """Refuse what no value could make right: fractions for whole numbers, text for numbers."""
    text, number = dtype.kind in "US", dtype.kind in "bui" or is_float(dtype)
    wants_text, wants_float = each.dtype.kind in "OUS", is_float(each.dtype)
    fine = (text or dtype.kind == "O") if wants_text else number and (wants_float or not is_float(dtype))
    if not fine:
        raise BadData(f"{each.name} in {where} is {dtype}: the model needs {each.dtype}, convert it")


def _pieces(arrays: Iterable[Array], rows: int) -> Iterator[Array]:
    """Runs of `rows` samples, across the seams between arrays; what is left comes last."""
    carry: Array | None = None
    for array in arrays:
        joined = array if carry is None else np.concatenate([carry, array])
        full = len(joined) - len(joined) % rows
        yield from (joined[start : start + rows] for start in range(0, full, rows))
        carry = joined[full:] if full < len(joined) else None
    if carry is not None:
        yield carry


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
