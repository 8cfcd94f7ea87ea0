"""History of a model in its own metadata: a record per operation, oldest first.

A record has no time and no path, so that equal inputs give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx_ir as ir

from modelsurgeon.onnx.io.serialize import pack
from modelsurgeon.version import __version__

HISTORY_KEY = "modelsurgeon.history"  # in metadata_props
NOT_COMPARED = "not compared"


@dataclass(frozen=True, kw_only=True)
class HistoryRecord:
    """One operation. arguments: those that differ from the defaults. verdict: of its comparison.

    input_sha256: of the input file; for a graph in memory, of the file that `save` would write.
    """

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    input_sha256: str
    verdict: str = NOT_COMPARED


def records(model: ir.Model) -> list[HistoryRecord]:
    """The records in a model's metadata; an empty list where the entry can't be read as records."""
    try:
        lines = json.loads(model.metadata_props.get(HISTORY_KEY, "[]"))
        return [HistoryRecord(**line) for line in lines]
    except (ValueError, TypeError):
        return []


def add(model: ir.Model, record: HistoryRecord) -> None:
    """Append a record to the model's metadata, in place."""
    lines = [asdict(entry) for entry in (*records(model), record)]
    model.metadata_props[HISTORY_KEY] = json.dumps(lines, sort_keys=True, separators=(",", ":"))


def digest(model: ir.Model | str | Path) -> str:
    """SHA-256 in hex: of a file's bytes, or of the single file that `save` would write for a graph."""
    sha256_hash = sha256()
    if isinstance(model, str | Path):
        with Path(model).open("rb") as file:
            while chunk := file.read(1 << 20):
                sha256_hash.update(chunk)
    else:
        pack(model).write(_HashWriter(sha256_hash))  # type: ignore[arg-type]
    return sha256_hash.hexdigest()


class _HashWriter:
    """A writable file that passes all bytes to a hash."""

    def __init__(self, sha256_hash: Any) -> None:  # noqa: ANN401 - hashlib names no type of its own
        self._hash = sha256_hash
        self._position = 0

    def write(self, chunk: bytes) -> int:
        self._hash.update(chunk)
        self._position += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self._position
