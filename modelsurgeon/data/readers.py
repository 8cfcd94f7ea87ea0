"""Readers of .npz and .npy files: names, shapes and dtypes from the headers, values on demand."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.errors import BadData

Array = NDArray[Any]

SUFFIXES = (".npz", ".npy")
MAX_DEFLATE_RATIO = 1100  # largest possible compression; a member that claims more is broken or malicious


@dataclass(frozen=True, kw_only=True)
class Header:
    """Shape and dtype of an array whose values haven't been read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Source:
    """Named arrays of one file or of the caller. `load(name)` reads one of them; nothing is cached.

    where: the origin, for messages. names: of all arrays in it. headers: of the arrays that were requested.
    """

    where: str
    names: Collection[str]
    headers: Mapping[str, Header]
    load: Callable[[str], Array]


def from_memory(arrays: Mapping[str, Array]) -> Source:
    """The source of arrays in memory."""
    headers = {name: Header(shape=array.shape, dtype=array.dtype) for name, array in arrays.items()}
    return Source(where="the data", names=list(arrays), headers=headers, load=arrays.__getitem__)


def from_files(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> list[Source]:
    """Sources of a path: one for an .npz or .npy file; for a folder one per file, sorted by name.

    names: the arrays to read; an .npy file is accepted only for a single name. optional: further arrays of
    .npz files, read where they are there.
    Raises BadData where the path doesn't exist, is of another type, or a file is broken or holds Python
    objects.
    """
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not inside:
            raise BadData(f"{path} holds no .npz or .npy file: one at least is needed")
        return [_source(file, names, optional) for file in inside]
    if not path.exists():
        raise BadData(f"{path} doesn't exist: name an .npz or .npy file, or a folder of them")
    if path.suffix not in SUFFIXES:
        raise BadData(f"{path} is neither .npz nor .npy nor a folder of them: save it with numpy.savez")
    return [_source(path, names, optional)]


def _source(path: Path, names: Sequence[str], optional: Sequence[str]) -> Source:
    return _npy(path, names) if path.suffix == ".npy" else _npz(path, [*names, *optional])


def _npz(path: Path, names: Sequence[str]) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            headers = {name: _member_header(archive, member, path) for name, member in wanted.items()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadData(f"{path} can't be read as .npz ({error}): save it with numpy.savez") from error
    return Source(
        where=str(path), names=list(members), headers=headers, load=lambda name: _read_npz_array(path, name)
    )


def _member_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Header:
    with archive.open(member) as file:
        header = _header(file, f"{member.filename} in {path}")
        start = file.tell()
    if member.file_size - start < header.nbytes or member.file_size > MAX_DEFLATE_RATIO * path.stat().st_size:
        raise BadData(f"{member.filename} in {path} is cut short: save it again")
    return header


def _read_npz_array(path: Path, name: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: Array = archive[name]
            return array
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BadData(f"{name} in {path} can't be read ({error}): save it again") from error


def _npy(path: Path, names: Sequence[str]) -> Source:
    if len(names) != 1:
        raise BadData(
            f"{path} holds one array and the model has several inputs: use .npz, arrays named as them"
        )
    try:
        with path.open("rb") as file:
            header = _header(file, str(path))
            start = file.tell()
    except OSError as error:
        raise BadData(f"{path} can't be read, {error.strerror}") from error
    if path.stat().st_size - start < header.nbytes:
        raise BadData(f"{path} is cut short: save it again")
    return Source(
        where=str(path), names=names, headers={names[0]: header}, load=lambda _: _read_npy_array(path, header)
    )


def _read_npy_array(path: Path, header: Header) -> Array:
    mapped: Literal["r"] | None = "r" if header.nbytes else None  # an empty file can't be mapped
    try:
        array: Array = np.load(path, mmap_mode=mapped, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadData(f"{path} can't be read ({error}): save it again") from error
    return array


def _header(file: IO[bytes], what: str) -> Header:
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadData(f"{what} is no numpy array: save it with numpy.save or numpy.savez") from error
    if dtype.hasobject:
        raise BadData(f"{what} holds pickled Python objects, which could run code: save plain arrays")
    return Header(shape=shape, dtype=dtype)
