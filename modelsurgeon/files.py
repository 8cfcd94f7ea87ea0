"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelsurgeon.errors import Unwritable

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    On any failure, Ctrl-C included, the temporary file goes and `path` is as it was.
    A file that is replaced hands on its permissions; through a link, what it points to is replaced.
    Raises `Unwritable` where `path` is a folder, its folder is missing or closed, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise Unwritable(f"{path} is a folder: name a file in it")
    temporary = _beside(target, path)
    try:
        yield temporary
        _settle(temporary, target)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise Unwritable(
                f"{path} wasn't written, {error.strerror}: make room or write elsewhere"
            ) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def same_file(a: str | Path, b: str | Path) -> bool:
    """Whether two paths lead to one file: by link, by hard link, or by another spelling."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def named(path: str | Path, fraction: float) -> Path:
    """The file of one fraction, named after that of all: at least two digits, more where they are needed.

    >>> named("small.onnx", 0.5).name, named("plan.json", 0.125).name
    ('small-0.50.onnx', 'plan-0.125.json')
    """
    path, digits = Path(path), f"{fraction:.2f}"
    told = digits if float(digits) == fraction else repr(fraction)
    return path.with_name(f"{path.stem}-{told}{path.suffix}")


def _beside(target: Path, path: str | Path) -> Path:
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


def _settle(temporary: Path, target: Path) -> None:
    """Give the file its permissions, bring it to the disk, and rename it."""
    temporary.chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
