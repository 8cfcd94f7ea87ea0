"""Arrays in files, by name: what they are is known from their headers, before a value is read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.errors import BadData

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Header:
    """Shape and element type of an array that isn't read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Named arrays of one origin. `load(name)` gives one of them; nothing is kept."""

    where: str
    headers: Mapping[str, Header]
    load: Callable[[str], Array]


def memory(arrays: Mapping[str, Array]) -> Source:
    """Arrays that the caller holds."""
    headers = {name: Header(shape=array.shape, dtype=array.dtype) for name, array in arrays.items()}
    return Source(where="the data", headers=headers, load=arrays.__getitem__)


def files(path: Path, name: str | None) -> list[Source]:
    """Sources of a path: one for an .npz or .npy file, one per file, in the order of names, for a folder.

    name: what the array of an .npy file is called; None where the model has more than one input.
    """
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix in READERS)
        if not inside:
            raise BadData(f"{path} holds no .npz or .npy file: one at least is needed")
        return [READERS[file.suffix](file, name) for file in inside]
    if not path.exists():
        raise BadData(f"{path} doesn't exist: name an .npz or .npy file, or a folder of them")
    if path.suffix not in READERS:
        raise BadData(f"{path} is neither .npz nor .npy nor a folder of them: save it with numpy.savez")
    return [READERS[path.suffix](path, name)]


def _npz(path: Path, _: str | None) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {
                member.filename.removesuffix(".npy"): _member_header(archive, member, path)
                for member in archive.infolist()
            }
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadData(f"{path} can't be read as .npz ({error}): save it with numpy.savez") from error
    return Source(where=str(path), headers=headers, load=lambda name: _from_npz(path, name))


def _member_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Header:
    with archive.open(member) as file:
        header = _header(file, f"{member.filename} in {path}")
    if member.file_size < header.dtype.itemsize * int(np.prod(header.shape, dtype=object)):
        raise BadData(f"{member.filename} in {path} is cut short: save it again")
    return header


def _from_npz(path: Path, name: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: Array = archive[name]
            return array
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise BadData(f"{name} in {path} can't be read ({error}): save it again") from error


def _npy(path: Path, name: str | None) -> Source:
    if name is None:
        raise BadData(
            f"{path} holds one array and the model has several inputs: use .npz, arrays named as them"
        )
    try:
        with path.open("rb") as file:
            header = _header(file, str(path))
            start = file.tell()
    except OSError as error:
        raise BadData(f"{path} can't be read, {error.strerror}") from error
    if path.stat().st_size - start < header.dtype.itemsize * int(np.prod(header.shape, dtype=object)):
        raise BadData(f"{path} is cut short: save it again")
    return Source(where=str(path), headers={name: header}, load=lambda _: _from_npy(path, header))


def _from_npy(path: Path, header: Header) -> Array:
    mapped = "r" if np.prod(header.shape) else None  # nothing can't be mapped
    try:
        array: Array = np.load(path, mmap_mode=mapped, allow_pickle=False)  # type: ignore[arg-type]
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


READERS = {".npz": _npz, ".npy": _npy}
