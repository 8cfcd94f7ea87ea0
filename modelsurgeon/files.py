"""Atomic writing of files, and names and suffixes of files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelsurgeon.errors import Unwritable

PT2_SUFFIX = ".pt2"  # a program exported by torch
NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file next to `path` that replaces it when the `with` block ends without an exception.

    On any failure, Ctrl-C included, the temporary file is deleted and `path` is unchanged.
    The new file has the permissions of the old one; of a link, the target is replaced.
    Raises `Unwritable` where `path` is a folder, its folder is missing or not writable, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise Unwritable(f"{path} is a folder: name a file in it")
    temporary = _create_temporary(target, path)
    try:
        yield temporary
        _move_into_place(temporary, target)
    except OSError as error:
        if error.errno in NO_SPACE_ERRNOS:
            raise Unwritable(
                f"{path} wasn't written, {error.strerror}: make room or write elsewhere"
            ) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def same_file(a: str | Path, b: str | Path) -> bool:
    """Whether two paths are the same file: by link, by hard link, or by another spelling."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def path_for_fraction(path: str | Path, fraction: float) -> Path:
    """The path with a fraction added to the file's stem, with two decimal digits or more where needed.

    >>> path_for_fraction("small.onnx", 0.5).name, path_for_fraction("plan.json", 0.125).name
    ('small-0.50.onnx', 'plan-0.125.json')
    """
    path, digits = Path(path), f"{fraction:.2f}"
    text = digits if float(digits) == fraction else repr(fraction)
    return path.with_name(f"{path.stem}-{text}{path.suffix}")


def _create_temporary(target: Path, path: str | Path) -> Path:
    """A new empty file in the folder of `target`. Raises `Unwritable`; `path` is for its message."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    except FileNotFoundError as error:
        raise Unwritable(f"{path}: the folder {target.parent} doesn't exist: make it first") from error
    except OSError as error:
        raise Unwritable(
            f"{path}: can't write in {target.parent}, {error.strerror}: write elsewhere"
        ) from error
    os.close(handle)
    return Path(name)


def _move_into_place(temporary: Path, target: Path) -> None:
    """Set the file's permissions, flush it to the disk, and rename it to `target`."""
    temporary.chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
