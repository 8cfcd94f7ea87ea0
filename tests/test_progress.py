"""Progress: told in order and to the end, and nothing at all where nobody listens."""

from __future__ import annotations

from modelsurgeon.progress import with_progress


def test_the_watch_is_told_before_each_item_and_after_the_last() -> None:
    told: list[tuple[str, int, int]] = []
    items = with_progress(iter("abc"), "letters", 3, lambda *what: told.append(what))
    assert (next(iter(items)), told) == ("a", [("letters", 0, 3)])
    assert list(items) == ["b", "c"]
    assert told == [("letters", number, 3) for number in range(4)]


def test_without_a_watch_the_items_are_handed_on_as_they_are() -> None:
    items = [1, 2]
    assert with_progress(items, "numbers", 2, None) is items
