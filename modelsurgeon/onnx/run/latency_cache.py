"""Cache of measured latencies: a file for each processor, onnxruntime version, provider and thread count.

The file is in `$XDG_CACHE_HOME/modelsurgeon` or `~/.cache/modelsurgeon`; MODELSURGEON_CACHE names another
folder, or is `off`: then times are kept while the process lives. A broken file counts as empty, a file that
can't be written is ignored, and two programs that write at once each leave a whole file.
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
CACHE_FORMAT = 1  # version of the file and of the way in which times are measured


class LatencyCache:
    """Milliseconds by a key that describes what was timed. path: None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        """Read the times in the file."""
        self._path = path
        self._known = _read_times(path)

    def __contains__(self, key: str) -> bool:
        """Whether the cache has a time for the key."""
        return key in self._known

    def __getitem__(self, key: str) -> float:
        """Milliseconds of the key; KeyError where there are none."""
        return self._known[key]

    def get(self, key: str) -> float | None:
        """Milliseconds of the key; None where there are none."""
        return self._known.get(key)

    def add(self, times: Mapping[str, float]) -> None:
        """Store further times, together with those that others wrote meanwhile. Times of known keys stay."""
        self._known = {**times, **_read_times(self._path), **self._known}
        if self._path is not None:
            with suppress(OSError, Unwritable):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self._path) as part:
                    part.write_text(json.dumps(self._known, indent=0, sort_keys=True), encoding="utf-8")


def cache_for(provider: str, threads: int | None) -> LatencyCache:
    """The cache of this processor and onnxruntime for a provider and a number of threads."""
    return _opened_cache(cache_folder(), provider, threads)


def cache_folder() -> Path | None:
    """The folder of the cache files; None where nothing is written."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return None if chosen == CACHE_OFF else Path(chosen)
    with suppress(RuntimeError):  # no home
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "modelsurgeon"
    return None


@cache
def _opened_cache(folder: Path | None, provider: str, threads: int | None) -> LatencyCache:
    setting = repr((CACHE_FORMAT, ort.__version__, provider, threads, processor_name()))
    name = f"times-{sha256(setting.encode()).hexdigest()[:16]}.json"
    return LatencyCache(None if folder is None else folder / name)


def processor_name() -> str:
    """Model name of the processor, or its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read_times(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(ms) for key, ms in found.items() if is_number(ms) and 0 < ms < float("inf")}
