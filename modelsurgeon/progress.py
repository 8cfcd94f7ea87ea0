"""Progress reports of long loops to a callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # called with (what, number done, total)


def with_progress(items: Iterable[T], what: str, total: int, watch: Progress | None) -> Iterable[T]:
    """The items, with a report to `watch` before each of them and after the last; unchanged if it is None."""
    return items if watch is None else _report_items(items, what, total, watch)


def _report_items(items: Iterable[T], what: str, total: int, watch: Progress) -> Iterator[T]:
    """The items, each after a report to `watch`, and a last report at the end."""
    for number, item in enumerate(items):
        watch(what, number, total)
        yield item
    watch(what, total, total)
