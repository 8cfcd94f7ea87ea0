"""Tensors of many feeds: in memory while they are few, in files of a temporary folder when they are not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from modelsurgeon.layers import Array

MAX_HELD_BYTES = 128 * 2**20  # bytes in memory; what comes on top is written to disk

Tensors = Mapping[str, Array]


class Spool:
    """One mapping from name to array for each feed; an entry that is put again replaces the one before."""

    def __init__(self) -> None:
        """Empty, without a folder."""
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
        """Keep the tensors of one feed; copies, as what a session gives holds on to all of its memory."""
        self._bytes -= _size(self._held.pop(number, {}))
        if self._bytes + _size(tensors) <= MAX_HELD_BYTES:
            self._held[number] = {name: np.array(array) for name, array in tensors.items()}
            self._bytes += _size(tensors)
            return
        names = list(tensors)
        np.savez(self._file(number), np.asarray(names, dtype=str), *(tensors[name] for name in names))

    def get(self, number: int) -> Tensors:
        """The tensors of one feed."""
        if number in self._held:
            return self._held[number]
        with np.load(self._file(number)) as stored:
            return {str(name): stored[f"arr_{place}"] for place, name in enumerate(stored["arr_0"], 1)}

    def _file(self, number: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="modelsurgeon-")
        return Path(self._folder.name) / f"{number}.npz"


def _size(tensors: Tensors) -> int:
    return sum(np.asarray(array).nbytes for array in tensors.values())


def entries(spool: Spool, count: int) -> Iterator[Tensors]:
    """The tensors of every feed, in order."""
    return (spool.get(number) for number in range(count))
