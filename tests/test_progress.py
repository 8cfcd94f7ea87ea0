"""Progress: the callback is called in order up to the end; without one, items pass unchanged."""

from __future__ import annotations

from modelsurgeon.progress import with_progress


def test_the_watch_is_called_before_each_item_and_after_the_last() -> None:
    calls: list[tuple[str, int, int]] = []
    items = with_progress(iter("abc"), "letters", 3, lambda *what: calls.append(what))
    assert (next(iter(items)), calls) == ("a", [("letters", 0, 3)])
    assert list(items) == ["b", "c"]
    assert calls == [("letters", number, 3) for number in range(4)]


def test_without_a_watch_the_items_are_returned() -> None:
    items = [1, 2]
    assert with_progress(items, "numbers", 2, None) is items
