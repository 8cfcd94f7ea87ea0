"""Times that were measured once, kept for the next time: a file for each machine, runtime and way to run.

The file lies in `$XDG_CACHE_HOME/modelsurgeon` or `~/.cache/modelsurgeon`; MODELSURGEON_CACHE names another
folder, or is `off`: then times are kept while the process lives. A file that is broken counts as empty, one
that can't be written is done without, and of two programs that write at once each leaves a whole file.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import onnxruntime as ort

from modelsurgeon.errors import Unwritable
from modelsurgeon.files import replacing
from modelsurgeon.report.formatting import is_number

CACHE_VARIABLE = "MODELSURGEON_CACHE"
CACHE_OFF = "off"
CACHE_FORMAT = 1  # of the file, and of how times are taken


class LatencyCache:
    """Milliseconds by what was timed. path: None where they aren't to outlive the process."""

    def __init__(self, path: Path | None) -> None:
        """Read what is known."""
        self._path = path
        self._known = _read(path)

    def __contains__(self, key: str) -> bool:
        """Whether it was timed."""
        return key in self._known

    def __getitem__(self, key: str) -> float:
        """Its milliseconds."""
        return self._known[key]

    def add(self, times: Mapping[str, float]) -> None:
        """Keep further times, beside those that others wrote meanwhile. What is known already stays."""
        self._known = {**times, **_read(self._path), **self._known}
        if self._path is not None:
            with suppress(OSError, Unwritable):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self._path) as part:
                    part.write_text(json.dumps(self._known, indent=0, sort_keys=True), encoding="utf-8")


def cache_for(provider: str, threads: int | None) -> LatencyCache:
    """The times of this machine and onnxruntime, with this provider and so many threads."""
    return _opened_cache(folder(), provider, threads)


def folder() -> Path | None:
    """Where times are kept; None where they aren't."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return None if chosen == CACHE_OFF else Path(chosen)
    with suppress(RuntimeError):  # no home
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "modelsurgeon"
    return None


@cache
def _opened_cache(place: Path | None, provider: str, threads: int | None) -> LatencyCache:
    told = repr((CACHE_FORMAT, ort.__version__, provider, threads, processor()))
    name = f"times-{sha256(told.encode()).hexdigest()[:16]}.json"
    return LatencyCache(None if place is None else place / name)


def processor() -> str:
    """What the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(ms) for key, ms in found.items() if is_number(ms) and 0 < ms < float("inf")}
