"""Settings of the whole process that several threads hold at once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from types import TracebackType


class SharedSetting:
    """A context in which a setting of the process holds; any number of threads may be in it at once.

    The first to enter applies the setting, the last to leave undoes it. With a saved value for each thread,
    those that overlap would restore each other's setting, and the last one would leave it for good.
    """

    def __init__(self, apply: Callable[[], Callable[[], object]]) -> None:
        """apply: applies the setting, and returns the function that undoes it."""
        self._apply = apply
        self._lock = Lock()
        self._holders = 0
        self._undo: Callable[[], object] | None = None

    def __enter__(self) -> Callable[[], object]:
        """Apply the setting, unless it holds already. Returns the function that undoes it."""
        with self._lock:
            if self._undo is None:
                self._undo = self._apply()
            self._holders += 1
            return self._undo

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo the setting, unless another thread is in the context."""
        with self._lock:
            self._holders -= 1
            if not self._holders and self._undo is not None:
                undo, self._undo = self._undo, None
                undo()


@contextmanager
def warnings_ignored(messages: Sequence[str]) -> Iterator[None]:
    """Context in which warnings are ignored whose messages begin so; messages: regular expressions.

    `warnings.catch_warnings` would restore all filters as they were, those of other threads included.
    """
    entries = [("ignore", re.compile(message, re.IGNORECASE), Warning, None, 0) for message in messages]
    warnings.filters[:0] = entries  # type: ignore[index]
    try:
        yield
    finally:
        for entry in entries:
            with suppress(ValueError):  # another thread has replaced the filters
                warnings.filters.remove(entry)  # type: ignore[attr-defined]
