"""What was done to a model, written in its own metadata: a line per operation, oldest first.

A line holds no time and no path, so that equal inputs give equal bytes.
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

    input_sha256: of the file that went in, or of what `save` would write where that was a graph in memory.
    """

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    input_sha256: str
    verdict: str = NOT_COMPARED


def records(model: ir.Model) -> list[HistoryRecord]:
    """The lines that the model carries; what isn't ours in their place is left out."""
    try:
        lines = json.loads(model.metadata_props.get(HISTORY_KEY, "[]"))
        return [HistoryRecord(**line) for line in lines]
    except (ValueError, TypeError):
        return []


def add(model: ir.Model, record: HistoryRecord) -> None:
    """Write one more line, in place."""
    lines = [asdict(each) for each in (*records(model), record)]
    model.metadata_props[HISTORY_KEY] = json.dumps(lines, sort_keys=True, separators=(",", ":"))


def digest(model: ir.Model | str | Path) -> str:
    """SHA-256 in hex: of a file as it stands, or of the one file that `save` would make of a graph."""
    found = sha256()
    if isinstance(model, str | Path):
        with Path(model).open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    else:
        pack(model).write(_HashWriter(found))  # type: ignore[arg-type]
    return found.hexdigest()


class _HashWriter:
    """A file that only feeds a hash."""

    def __init__(self, found: Any) -> None:  # noqa: ANN401 - hashlib names no type of its own
        self._found = found
        self._at = 0

    def write(self, piece: bytes) -> int:
        self._found.update(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at
