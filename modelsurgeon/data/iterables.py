"""Feeds that a caller gives one by one, in any iterable: checked, cut and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np

from modelsurgeon.data.feeds import (
    Array,
    Feed,
    Input,
    as_array,
    batch_size,
    check_feed,
    fed_inputs,
    ignored_note,
    is_float,
)
from modelsurgeon.data.values import Ranges, bad_rows, refusal, skip_note
from modelsurgeon.errors import BadData, SurgeryError

LOGGER = logging.getLogger("modelsurgeon")

Named = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FoundFeeds:
    """The feeds of an iterable. sizes: samples in each. inputs: those that are fed. notes: for the report.

    make: returns an iterator over the feeds, from the first.
    """

    sizes: Sequence[int]
    inputs: Sequence[Input]
    notes: Sequence[str]
    make: Callable[[], Iterator[Feed]]


def read_feeds(
    data: Iterable[Any], inputs: Sequence[Input], samples: int | None, *, skip_bad: bool
) -> FoundFeeds:
    """The feeds of an iterable, read once; at most `samples` samples.

    What has no length or is an iterator is kept in memory as far as it was read. Raises BadData for feeds
    that don't fit, for bad samples unless `skip_bad`, and for an iterable that fails or can't be read again.
    """
    again = hasattr(data, "__len__") and not isinstance(data, Iterator)
    read: list[Any] = []
    names: list[set[str]] = []
    last: Named = {}

    def watched() -> Iterator[Named]:
        nonlocal last
        for item in _iterated(data):
            last = named = by_name(item, inputs)
            names.append(set(named))
            if not again:
                read.append(named)
            yield named

    sizes, mark, skipped, ranges = list[int](), 0, 0, Ranges()
    for feed, dropped in _good_feeds(watched(), inputs, samples, skip_bad=skip_bad):
        skipped = dropped
        if not feed:
            continue
        mark = mark if sizes else _checksum(feed)
        sizes.append(batch_size(array.shape for array in feed.values()))
        for spec in inputs:
            if spec.name in feed:
                ranges.add(spec, as_array(last[spec.name], spec.name))  # in the dtype that was given
    if not sizes:
        raise _nothing_left(len(names), skipped)
    fed = fed_inputs(inputs, names)

    def good() -> Iterator[Feed]:
        items = (by_name(item, fed) for item in _iterated(data if again else read))
        return (feed for feed, _ in _good_feeds(items, fed, samples, skip_bad=skip_bad) if feed)

    notes = [*ranges.notes(fed), skip_note(skipped) if skipped else "", ignored_note(names, fed)]
    return FoundFeeds(sizes=sizes, inputs=fed, notes=notes, make=lambda: _repeated(good(), len(sizes), mark))


def _nothing_left(read: int, skipped: int) -> BadData:
    """The error for data of which no sample is left, after so many batches and samples."""
    if skipped:
        return BadData(f"all {skipped} samples have NaN or infinite values: repair the data")
    return BadData(f"the data holds no {'sample' if read else 'batch'}: one at least is needed")


def _repeated(feeds: Iterator[Feed], count: int, mark: int) -> Iterator[Feed]:
    """So many feeds. Warns where the first isn't that of the first pass; raises BadData for fewer.

    mark: the checksum of the first feed of the first pass.
    """
    number = 0
    for number, feed in enumerate(islice(feeds, count), 1):
        if number == 1 and _checksum(feed) != mark:
            LOGGER.warning("the data aren't the same in each pass: give them in a fixed order")
        yield feed
    if number < count:
        raise BadData(f"the data gave {count} batches at first and then {number}: give a list of them")


def by_name(feed: Any, inputs: Sequence[Input]) -> Named:  # noqa: ANN401
    """A feed by input name; arrays without names are for the inputs without a default, in order.

    Raises BadData where their numbers differ.
    """
    if isinstance(feed, Mapping):
        return feed
    arrays = list(feed) if isinstance(feed, tuple | list) else [feed]
    needed = [spec.name for spec in inputs if not spec.has_default]
    if len(arrays) != len(needed):
        raise BadData(f"{len(arrays)} arrays without names for the inputs {', '.join(needed)}: name them")
    return {name: as_array(array, name) for name, array in zip(needed, arrays, strict=True)}


def _iterated(data: Iterable[Any]) -> Iterator[Any]:
    """The items. Raises BadData, with its number, for one that can't be made."""
    items, number = iter(data), 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except SurgeryError:
            raise
        except Exception as error:
            about = (str(error).splitlines() or [""])[0]
            raise BadData(
                f"the data can't give batch {number} ({type(error).__name__}: {about}): repair it"
            ) from error
        yield item
        number += 1


def _good_feeds(
    data: Iterable[Named], inputs: Sequence[Input], samples: int | None, *, skip_bad: bool
) -> Iterator[tuple[Feed, int]]:
    """At most `samples` samples as feeds, with the number skipped so far. Raises BadData for a bad one.

    A feed of which nothing is left is empty.
    """
    held = skipped = 0
    for number, named in enumerate(data):
        fed = [spec for spec in inputs if not spec.has_default or spec.name in named]
        feed = check_feed(_with_lost_values_infinite(named, fed), fed)
        size = batch_size(array.shape for array in feed.values())
        rows = np.zeros(size, bool)
        for spec in fed:
            array = feed[spec.name]
            axis = array.ndim > 0 and len(array) == size
            bad = bad_rows(array if axis else array.reshape(1, -1), spec)
            if bad.any() and not skip_bad:
                place = f"sample {int(bad.argmax())} of batch {number}"
                raise refusal(spec.name, place, as_array(named[spec.name], spec.name), spec.dtype)
            rows |= bad if axis else bad.any()
        may_cut = all(spec.rows is None and feed[spec.name].shape[:1] == (size,) for spec in fed)
        if rows.any():
            skipped += int(rows.sum()) if may_cut else size
            feed = {name: array[~rows] for name, array in feed.items()} if may_cut else {}
            size = int((~rows).sum()) if may_cut else 0
        if samples is not None and held + size > samples:
            if may_cut and samples > held:
                feed, size = {name: array[: samples - held] for name, array in feed.items()}, samples - held
            elif held:
                return
        held += size
        yield (feed if size else {}), skipped
        if samples is not None and held >= samples:
            return


def _with_lost_values_infinite(feed: Named, inputs: Sequence[Input]) -> dict[str, Array]:
    """The feed with floats that overflow the input's dtype as infinite, so that their sample can be named."""
    made = {name: as_array(array, name) for name, array in feed.items()}
    for spec in inputs:
        array = made.get(spec.name)
        if array is not None and is_float(array.dtype) and is_float(spec.dtype):
            with np.errstate(over="ignore", invalid="ignore"):
                made[spec.name] = array.astype(spec.dtype, order="C", copy=False)
    return made


def _checksum(feed: Feed) -> int:
    """A checksum of a feed."""
    mark = 0
    for array in feed.values():
        plain = array if array.dtype != object else np.array(array, str)
        mark = crc32(np.ascontiguousarray(plain).tobytes(), mark)
    return mark
