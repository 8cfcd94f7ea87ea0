"""Tensors of many feeds, kept in memory up to a limit and beyond it in files of a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from modelsurgeon.layers import Array

MAX_HELD_BYTES = 128 * 2**20  # bytes in memory; tensors beyond are written to disk

Tensors = Mapping[str, Array]


class Spool:
    """A mapping from name to array for each feed; tensors that are put again replace those of before."""

    def __init__(self) -> None:
        """Start empty, without a folder."""
        self._held: dict[int, Tensors] = {}
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Spool:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files."""
        self._held.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, number: int, tensors: Tensors) -> None:
        """Store copies of one feed's tensors; a session's own arrays would keep all of its memory alive."""
        self._bytes -= _nbytes(self._held.pop(number, {}))
        if self._bytes + _nbytes(tensors) <= MAX_HELD_BYTES:
            self._held[number] = {name: np.array(array) for name, array in tensors.items()}
            self._bytes += _nbytes(tensors)
            return
        names = list(tensors)
        np.savez(self._file(number), np.asarray(names, dtype=str), *(tensors[name] for name in names))

    def get(self, number: int) -> Tensors:
        """Tensors of one feed."""
        if number in self._held:
            return self._held[number]
        with np.load(self._file(number)) as stored:
            return {str(name): stored[f"arr_{index}"] for index, name in enumerate(stored["arr_0"], 1)}

    def _file(self, number: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="modelsurgeon-")
        return Path(self._folder.name) / f"{number}.npz"


def _nbytes(tensors: Tensors) -> int:
    return sum(np.asarray(array).nbytes for array in tensors.values())


def tensors_of_feeds(spool: Spool, count: int) -> Iterator[Tensors]:
    """Tensors of every feed, in order."""
    return (spool.get(number) for number in range(count))
