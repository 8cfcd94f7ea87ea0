"""Slicing of sample arrays into the feeds of a model, and checks that they fit its inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, repeat
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.data.readers import Header, Source
from modelsurgeon.errors import BadData

Array = NDArray[Any]
Feed = dict[str, Array]

ONE_FOR_ALL = "one value for all samples"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a model. shape: None for any number of axes; a dynamic dimension is None.

    has_default: whether the model has a value for it, so that it is fed only where the data name it.
    made_whole: whether the model turns it into integers at once, as it does with ids.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    has_default: bool = False
    made_whole: bool = False

    @property
    def form(self) -> str:
        """The shape as text, dynamic dimensions as `?`, such as `[?, 3, 32, 32]`."""
        return "of any rank" if self.shape is None else shape_text(self.shape)

    @property
    def rows(self) -> int | None:
        """Batch size that the model fixes by the first axis; None where it is dynamic or there is none."""
        return self.shape[0] if self.shape else None

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is a valid feed."""
        return self.shape is None or _shape_fits(shape, self.shape)


@dataclass(frozen=True, kw_only=True)
class FeedSlicing:
    """The slicing of the arrays for one input into feeds.

    length: number of samples in all files. rows: samples per feed. ragged: whether the last feed may have
    fewer. whole: whether each sample is a complete feed. constant: whether the array itself is used in every
    feed of its file.
    """

    input: Input
    length: int = 0
    rows: int = 1
    ragged: bool = False
    whole: bool = False
    constant: bool = False

    @property
    def feeds(self) -> int:
        """Number of feeds; 0 where `constant`."""
        return ceil(self.length / self.rows) if self.ragged else self.length // self.rows

    @property
    def used(self) -> int:
        """Number of samples in all feeds; the rest doesn't fill a feed."""
        return min(self.length, self.feeds * self.rows)

    def arrays(self, found: Sequence[Source]) -> Iterator[Array]:
        """The input's array of each feed, in order; one file at a time is in memory. Raises BadData."""
        loaded = (source.load(self.input.name) for source in found)
        if self.constant:
            return repeat(cast(next(loaded), self.input))
        pieces = _chunks(loaded, self.rows)
        return (cast(piece[0] if self.whole else piece, self.input) for piece in pieces)


def slicings(found: Sequence[Source], inputs: Sequence[Input], batch: int | None) -> list[FeedSlicing]:
    """The slicing for each input. Raises BadData where names, shapes, types or counts don't fit."""
    for source in found:
        _check_names(source, inputs)
    if batch is not None:
        _check_batch(batch, inputs)
    made = [_slicing(found, spec, batch) for spec in inputs]
    for source in found:
        _check_counts(source_slicings(source, inputs, batch), source.where)
    _check_amount([slicing for slicing in made if not slicing.constant], found[0].where)
    return made


def source_slicings(source: Source, inputs: Sequence[Input], batch: int | None) -> list[FeedSlicing]:
    """The slicing of one source alone, for each input. Raises BadData as `slicings`."""
    return [_slicing([source], spec, batch) for spec in inputs]


def are_aligned(made: Iterable[FeedSlicing]) -> bool:
    """Whether the arrays that are sliced have equal numbers of samples."""
    return len({slicing.length for slicing in made if not slicing.constant}) == 1


def grouped(found: Sequence[Source], inputs: Sequence[Input], batch: int | None) -> list[list[Source]]:
    """Runs of sources whose samples are fed together, in order: no batch mixes shapes.

    A source stands alone where an array of it is for all of its own samples, or where arrays of several
    samples a feed go with others of one.
    """
    each = [source_slicings(source, inputs, batch) for source in found]
    if any(slicing.constant for made in each for slicing in made) or not all(map(are_aligned, each)):
        return [[source] for source in found]

    def sample_shapes(source: Source) -> list[tuple[int, ...]]:
        return [source.headers[spec.name].shape[1:] for spec in inputs]

    return [list(group) for _, group in groupby(found, sample_shapes)]


def feeds(found: Sequence[Source], made: Sequence[FeedSlicing], count: int) -> Iterator[Feed]:
    """`count` feeds, each a mapping from input name to array."""
    streams = [slicing.arrays(found) for slicing in made]
    for _ in range(count):
        yield {slicing.input.name: next(stream) for slicing, stream in zip(made, streams, strict=True)}


def fed_inputs(inputs: Sequence[Input], names: Sequence[Collection[str]]) -> list[Input]:
    """The inputs that are fed: those without a default, and those named. names: of all arrays, by file.

    Raises BadData where a default is replaced in a part of the data only.
    """
    for spec in inputs:
        named = [spec.name in each for each in names]
        if spec.has_default and any(named) and not all(named):
            raise BadData(f"{spec.name}, which has a default, is in a part of the data only: give it in all")
    return [spec for spec in inputs if not spec.has_default or all(spec.name in each for each in names)]


def ignored_note(names: Iterable[Collection[str]], inputs: Sequence[Input]) -> str:
    """Which arrays are no inputs of the model, as text; "" where all are."""
    extra = {name for each in names for name in each} - {spec.name for spec in inputs}
    return f"ignored, since no input has this name: {', '.join(sorted(extra))}" if extra else ""


def batch_size(shapes: Iterable[tuple[int, ...]]) -> int:
    """Size of the first axis where all arrays of two or more axes agree, else 1."""
    sizes = {shape[0] for shape in shapes if len(shape) > 1}
    return sizes.pop() if len(sizes) == 1 else 1


def as_array(value: Any, name: str) -> Array:  # noqa: ANN401 - whatever numpy takes
    """The value as an array. Raises BadData, with the name of the input, where numpy makes none of it."""
    if np.ma.is_masked(value):
        raise BadData(f"{name} has masked values: fill them in, or leave such samples out")
    try:
        return np.asarray(value)
    except Exception as error:  # tensors of other libraries raise errors of their own
        about = (str(error).splitlines() or [""])[0]
        raise BadData(f"{name} is no array ({about}): give numpy arrays") from error


def check_feed(feed: Mapping[str, Array], inputs: Sequence[Input]) -> Feed:
    """A feed of the caller in the dtypes of the inputs. Raises BadData for missing names, shapes or types."""
    missing = [spec.name for spec in inputs if spec.name not in feed]
    if missing:
        raise BadData(f"a batch lacks {_name_list(missing)}: it has {_name_list(feed)}")
    checked = {spec.name: np.asarray(feed[spec.name]) for spec in inputs}
    for spec in inputs:
        array = checked[spec.name]
        _check_type(array.dtype, spec, "a batch")
        if not spec.accepts(array.shape):
            raise BadData(
                f"{spec.name} has shape {shape_text(array.shape)} in a batch: {spec.form} is needed"
            )
    return {spec.name: cast(checked[spec.name], spec) for spec in inputs}


def cast(array: Array, to: Input) -> Array:
    """The array in the input's dtype, contiguous.

    Floats may be rounded; raises BadData where one overflows or any other value changes.
    """
    if array.dtype == to.dtype:
        return np.ascontiguousarray(array).reshape(array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        made: Array = array.astype(to.dtype, order="C")
    if is_float(array.dtype) and is_float(to.dtype):
        lost = bool((np.isfinite(array) & ~np.isfinite(made)).any())
    else:
        lost = not np.array_equal(made.astype(array.dtype), array) or _changes_sign(made, array)
    if lost:
        raise BadData(
            f"{to.name} has values that {to.dtype} can't hold: the model needs {to.dtype}, convert it"
        )
    return made


def _changes_sign(made: Array, array: Array) -> bool:
    """Whether a number below 0 became one above, or the reverse: int8 -1 is uint8 255, and back -1 again."""
    signed = made.dtype.kind in "biu" and array.dtype.kind in "biu"
    return signed and not np.array_equal(made < 0, array < 0)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is floating point, including bfloat16 and float8, which numpy doesn't count as such."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def shape_text(shape: Iterable[int | None]) -> str:
    """A shape as text, dynamic dimensions as `?`: `[1, 3, ?]`."""
    return f"[{', '.join(map(_dim, shape))}]"


def _dim(size: int | None) -> str:
    return "?" if size is None else str(size)


def _slicing(found: Sequence[Source], spec: Input, batch: int | None) -> FeedSlicing:
    """The slicing for one input. Raises BadData where its arrays differ in form between sources."""
    forms = [_array_form(source.headers[spec.name], spec, source.where) for source in found]
    if len(set(forms)) > 1:
        raise BadData(
            f"{spec.name} has {' and '.join(sorted(set(forms)))} in different files: one form is needed"
        )
    if forms[0] == ONE_FOR_ALL:
        return FeedSlicing(input=spec, constant=True)
    length = sum(source.headers[spec.name].shape[0] for source in found)
    if forms[0] == "an axis more":
        return FeedSlicing(input=spec, length=length, whole=True)
    return FeedSlicing(input=spec, length=length, rows=spec.rows or batch or 1, ragged=spec.rows is None)


def _array_form(header: Header, spec: Input, where: str) -> str:
    """The form of an array: axes as the input, an axis more, or one value. Raises BadData for others."""
    _check_type(header.dtype, spec, where)
    shape = header.shape
    needed = tuple(None for _ in shape) if spec.shape is None else spec.shape
    if shape == needed and (not shape or spec.has_default):
        return ONE_FOR_ALL
    if len(shape) == len(needed) and _shape_fits(shape[1:], needed[1:]):
        return "as many axes as the input"
    if len(shape) == len(needed) + 1 and _shape_fits(shape[1:], needed):
        return "an axis more"
    samples = f"[{', '.join(['N', *map(_dim, needed[1:])])}]"
    raise BadData(
        f"{spec.name} in {where} has shape {shape_text(shape)}: {samples} is needed, N samples first"
    )


def _shape_fits(shape: Sequence[int], needed: Sequence[int | None]) -> bool:
    return len(shape) == len(needed) and all(n in (None, s) for s, n in zip(shape, needed, strict=True))


def _check_names(source: Source, inputs: Sequence[Input]) -> None:
    missing = [spec.name for spec in inputs if spec.name not in source.headers]
    if missing:
        has = _name_list(source.names) or "nothing"
        raise BadData(
            f"{source.where} lacks {_name_list(missing)}, it has {has}: name arrays as the model's inputs"
        )


def _check_batch(batch: int, inputs: Sequence[Input]) -> None:
    if batch < 1:
        raise BadData(f"a batch of {batch}: at least 1 is needed")
    fixed = {spec.rows for spec in inputs if spec.shape != ()}
    if fixed and None not in fixed and batch not in fixed:
        raise BadData(
            f"a batch of {batch}, and the model's is fixed at {max(filter(None, fixed))}: leave it out"
        )


def _check_amount(made: Sequence[FeedSlicing], where: str) -> None:
    for slicing in made:
        if slicing.length == 0:
            raise BadData(f"{slicing.input.name} in {where} has no samples: one at least is needed")
        if slicing.feeds == 0:
            raise BadData(
                f"{slicing.input.name} in {where} has {slicing.length} samples: "
                f"the model takes {slicing.rows} at once"
            )


def _check_counts(made: Sequence[FeedSlicing], where: str) -> None:
    for first, slicing in pairwise([slicing for slicing in made if not slicing.constant]):
        lengths_count = slicing.rows == first.rows
        if slicing.feeds != first.feeds or (lengths_count and slicing.length != first.length):
            raise BadData(
                f"{where} has {first.length} samples for {first.input.name} and {slicing.length} "
                f"for {slicing.input.name}: equal numbers are needed"
            )


def _check_type(dtype: np.dtype[Any], spec: Input, where: str) -> None:
    """Raise BadData for dtypes that never convert: floats for integers, text for numbers and the reverse."""
    text, number = dtype.kind in "US", dtype.kind in "bui" or is_float(dtype)
    wants_text, wants_float = spec.dtype.kind in "OUS", is_float(spec.dtype)
    fine = (text or dtype.kind == "O") if wants_text else number and (wants_float or not is_float(dtype))
    if not fine:
        needed = "text" if wants_text else spec.dtype
        raise BadData(f"{spec.name} in {where} is {dtype}: the model needs {needed}, convert it")


def _chunks(arrays: Iterable[Array], rows: int) -> Iterator[Array]:
    """Chunks of `rows` samples, also across the boundaries of arrays; the last one may be smaller."""
    rest: Array | None = None
    for array in arrays:
        joined = array if rest is None else np.concatenate([rest, array])
        full = len(joined) - len(joined) % rows
        yield from (joined[start : start + rows] for start in range(0, full, rows))
        rest = joined[full:] if full < len(joined) else None
    if rest is not None:
        yield rest


def _name_list(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))
