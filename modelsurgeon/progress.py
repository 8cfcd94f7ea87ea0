"""How far a long piece of work is, told to whoever wants to know; nothing is done where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # told what is done, how many are and how many there are


def counted(items: Iterable[T], what: str, total: int, watch: Progress | None) -> Iterable[T]:
    """The items themselves, with the watch told before each of them and after the last."""
    return items if watch is None else _with_progress(items, what, total, watch)


def _with_progress(items: Iterable[T], what: str, total: int, watch: Progress) -> Iterator[T]:
    for number, item in enumerate(items):
        watch(what, number, total)
        yield item
    watch(what, total, total)
