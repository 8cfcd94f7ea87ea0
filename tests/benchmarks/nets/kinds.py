"""magika: file type by the first and last bytes; the original's prediction is the ground truth."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import modelsurgeon as ms
from tests.benchmarks.subjects import Absent, Array, Net, Scores, Subject, agreement, flat, label, public

ENDS, BLOCK, PADDING = 1024, 4096, 256
LEAST = 64  # bytes of a file
OF_A_KIND = 12  # files of one suffix
FOLDERS = ("/usr/share", "/usr/lib", "/etc", sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"))
BATCH = 8


def magika(samples: int, tests: int) -> Subject:
    """Files of this machine, a few of each suffix."""
    files = _files()
    if len(files) < 2 * BATCH:
        raise Absent(f"{len(files)} files in {', '.join(FOLDERS)}: some more are needed")
    tests = min(tests, len(files) // 2)
    tests -= tests % BATCH
    asked, known = files[:tests], files[tests : tests + samples]
    return Subject(
        model=ms.load(public("standard_v3_3/model.onnx")),
        calibration={"bytes": np.array([_ends(path.read_bytes()) for path in known], np.int32)},
        test={"bytes": np.array([_ends(path.read_bytes()) for path in asked], np.int32)},
        read=label,
        score=_score,
        batch=BATCH,
    )


def _score(ours: Sequence[Any], theirs: Sequence[Any]) -> Scores:
    return {"same answer": agreement(flat(ours), flat(theirs))}


def _files() -> list[Path]:
    """Files of all folders, shuffled with a fixed seed."""
    kinds: dict[str, list[Path]] = {}
    for folder in FOLDERS:
        for path in _below(Path(folder)):
            alike = kinds.setdefault(path.suffix, [])
            if len(alike) < OF_A_KIND and path.stat().st_size >= LEAST:
                alike.append(path)
    found = [path for suffix in sorted(kinds) for path in kinds[suffix]]
    Random(0).shuffle(found)
    return found


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        paths = (Path(place) / name for name in sorted(names))
        yield from (path for path in paths if path.is_file() and os.access(path, os.R_OK))


def _ends(content: bytes) -> Array:
    """The first and last 1024 bytes without outer whitespace; padding between them in a shorter file."""
    first, last = content[:BLOCK].lstrip()[:ENDS], content[-BLOCK:].rstrip()[-ENDS:]
    found = np.full(2 * ENDS, PADDING, np.int32)
    found[: len(first)] = list(first)
    found[2 * ENDS - len(last) :] = list(last)
    return found


NETS = (Net(name="magika", open=magika, kept=(0.8, 0.6, 0.5, 0.4), tests=400),)
