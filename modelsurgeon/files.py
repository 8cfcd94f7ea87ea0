"""Atomic writing of files, output to devices and pipes, and names and suffixes of files."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from shutil import copyfileobj
from typing import BinaryIO

from modelsurgeon.errors import Unwritable

PT2_SUFFIX = ".pt2"  # a program exported by torch
STDOUT, STDOUT_DESCRIPTOR = "-", 1  # the path that stands for stdout, and the number of stdout
DESCRIPTOR_FOLDER = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")  # with links followed
MAX_LINKS = 40  # followed from a path to a descriptor, as many as Linux follows
NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file whose content `path` gets when the `with` block ends without an exception.

    On any failure, Ctrl-C included, the temporary file is deleted and `path` is unchanged.
    A file is replaced: the new one has the permissions and the owner of the old one; of a link, the target is
    replaced. Into a device, a pipe, an open descriptor such as /dev/stdout, and `-`, which is stdout, the
    content is written; these are never replaced.
    Raises `Unwritable` where `path` is a folder, its folder is missing or not writable, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise Unwritable(f"{path} is a folder: name a file in it")
    through = is_written_through(path)
    if through:
        _check_stream(path)
    temporary = _create_spool() if through else _create_temporary(target, path)
    try:
        yield temporary
        if through:
            _write_through(temporary, path)
        else:
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


def is_written_through(path: str | Path) -> bool:
    """Whether the path is `-`, an open descriptor, a device, a pipe or a socket, which can't be replaced."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_stdout(path: str | Path | None) -> bool:
    """Whether what is written to the path comes out on stdout."""
    return path is not None and _descriptor(path) == STDOUT_DESCRIPTOR


def is_device(path: str | Path) -> bool:
    """Whether the path is a character device, such as /dev/null: it takes any number of outputs."""
    try:
        return stat.S_ISCHR(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def same_file(a: str | Path, b: str | Path) -> bool:
    """Whether two paths are the same file: by link, by hard link, or by another spelling."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def path_for_fraction(path: str | Path, fraction: float) -> Path:
    """The path with a fraction added to the file's stem, with two decimal digits or more where needed.

    A device or a pipe keeps its name.

    >>> path_for_fraction("small.onnx", 0.5).name, path_for_fraction("plan.json", 0.125).name
    ('small-0.50.onnx', 'plan-0.125.json')
    """
    if is_written_through(path):
        return Path(path)
    path, digits = Path(path), f"{fraction:.2f}"
    text = digits if float(digits) == fraction else repr(fraction)
    return path.with_name(f"{path.stem}-{text}{path.suffix}")


def _descriptor(path: str | Path) -> int | None:
    """The number of the open descriptor that a path names, itself or through links; None if it names none."""
    if str(path) == STDOUT:
        return STDOUT_DESCRIPTOR
    place = Path(path).absolute()
    for _ in range(MAX_LINKS):
        if place.name.isdecimal() and _holds_own_descriptors(place.parent):
            return int(place.name)
        try:
            place = place.parent / place.readlink()
        except (OSError, ValueError):
            return None
    return None


def _holds_own_descriptors(folder: Path) -> bool:
    """Whether the folder lists the open descriptors of this process."""
    found = DESCRIPTOR_FOLDER.fullmatch(os.path.realpath(folder))
    return found is not None and found[1] in (None, str(os.getpid()))


def _check_stream(path: str | Path) -> None:
    """Raise `Unwritable` for a device, pipe or descriptor that can't be written; none is opened for that."""
    if str(path) == STDOUT:
        return
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise Unwritable(f"{path} can't be written, {error.strerror}: write elsewhere") from error
    if stat.S_ISSOCK(mode) and _descriptor(path) is None:
        raise Unwritable(f"{path} is a socket: write to a file or a pipe")
    if not os.access(path, os.W_OK):
        raise Unwritable(f"{path} can't be written, Permission denied: write elsewhere")


def _create_spool() -> Path:
    """A new empty file in the folder for temporary files."""
    handle, name = tempfile.mkstemp(prefix="modelsurgeon.", suffix=".part")
    os.close(handle)
    return Path(name)


def _write_through(temporary: Path, path: str | Path) -> None:
    """Copy the file into a device, a pipe or a descriptor. Raises `Unwritable` where nobody reads it."""
    try:
        with temporary.open("rb") as source, _opened_stream(path) as stream:
            copyfileobj(source, stream)
            stream.flush()
    except BrokenPipeError as error:
        raise Unwritable(f"{path} wasn't written whole, its reader has closed it: keep it open") from error
    except OSError as error:
        if error.errno in NO_SPACE_ERRNOS:
            raise
        raise Unwritable(f"{path} can't be written, {error.strerror}: write elsewhere") from error


@contextmanager
def _opened_stream(path: str | Path) -> Iterator[BinaryIO]:
    """The stream behind a path. A descriptor is written where it stands: opened anew, its file is cut."""
    descriptor = _descriptor(path)
    if descriptor == STDOUT_DESCRIPTOR:
        sys.stdout.flush()
    if descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            yield stream
    else:
        with Path(path).open("wb") as stream:
            yield stream


def _create_temporary(target: Path, path: str | Path) -> Path:
    """A new empty file in the folder of `target`. Raises `Unwritable`; `path` is for its message.

    Where `target` exists, only the owner can open it until it gets the permissions of `target`.
    """
    name = target.parent / f".{target.name[:100]}.{token_hex(6)}.part"
    mode = 0o600 if target.exists() else 0o666
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    except FileNotFoundError as error:
        raise Unwritable(f"{path}: the folder {target.parent} doesn't exist: make it first") from error
    except OSError as error:
        raise Unwritable(
            f"{path}: can't write in {target.parent}, {error.strerror}: write elsewhere"
        ) from error
    return name


def _move_into_place(temporary: Path, target: Path) -> None:
    """Give the file owner and permissions of `target`, flush it to the disk, and rename it to `target`."""
    if target.exists():
        status, own = target.stat(), temporary.stat()
        if (status.st_uid, status.st_gid) != (own.st_uid, own.st_gid):
            with suppress(PermissionError):  # only root gives files away
                os.chown(temporary, status.st_uid, status.st_gid)
        temporary.chmod(stat.S_IMODE(status.st_mode))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
