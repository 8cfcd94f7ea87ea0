"""Tensors that stay on disk: read when they are touched, from the very file that was validated."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from weakref import finalize

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.errors import BadModel

CHUNK_BYTES = 16 * 1024**2


class DataFile:
    """A regular file, remembered as it was when it was looked at.

    A read that finds another file there, or this one changed, raises BadModel: no weight comes from bytes
    that weren't checked. `hold` keeps the file readable when another takes its place.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file. Raises BadModel where there is none, or something that isn't a regular file."""
        self.path = path.absolute()
        self._held: BinaryIO | None = None
        self._lock = Lock()
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            raise BadModel(
                f"can't be opened ({getattr(error, 'strerror', error)}): check the path"
            ) from error
        if stat.S_ISDIR(found.st_mode):
            raise BadModel("is a folder: name the .onnx file in it")
        if not stat.S_ISREG(found.st_mode):
            raise BadModel("is a device or a pipe: only a regular file is read")
        self.size = found.st_size
        self.links = found.st_nlink
        self._stamp = _stamp(found)

    @property
    def in_place(self) -> bool:
        """Whether the path still leads to this very file, so that others may read it by its name."""
        try:
            return _stamp(self.path.stat()) == self._stamp
        except OSError:
            return False

    def hold(self) -> None:
        """Keep the file open from now on, whatever becomes of its name."""
        if self._held is None:
            self._held = self._checked()
            finalize(self, self._held.close)

    def read(self, offset: int, length: int) -> NDArray[np.uint8]:
        """Bytes of the file, read-only. Raises BadModel where the file isn't what it was."""
        bytes_read = np.empty(length, np.uint8)
        with self.opened() as file:
            file.seek(offset)
            at = 0
            while at < length:
                count = file.readinto(bytes_read.data[at:])  # type: ignore[attr-defined]
                if not count:
                    raise self._changed()
                at += count
        bytes_read.flags.writeable = False
        return bytes_read

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, to be read. Raises BadModel where it isn't what it was."""
        if self._held is None:
            with self._checked() as file:
                yield file
        else:
            with self._lock:  # one position in the file for all threads
                yield self._held

    def _checked(self) -> BinaryIO:
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise self._changed() from error
        except OSError as error:
            raise BadModel(f"can't be opened ({error.strerror}): check its permissions") from error
        if _stamp(os.fstat(file.fileno())) != self._stamp:
            file.close()
            raise self._changed()
        return file

    def _changed(self) -> BadModel:
        return BadModel(f"{self.path} has changed since the model was loaded: load it again")


class StoredTensor(ir.LazyTensor):
    """A tensor whose bytes lie in a file, laid out as ONNX raw data. Every touch reads it anew."""

    __slots__ = ("file", "length", "offset")

    def __init__(
        self,
        file: DataFile,
        offset: int,
        *,
        dtype: ir.DataType,
        shape: ir.Shape,
        name: str | None = None,
        doc_string: str | None = None,
        metadata_props: dict[str, str] | None = None,
    ) -> None:
        """Remember the place; nothing is read."""
        super().__init__(
            self._read, dtype, shape, name=name, doc_string=doc_string, metadata_props=metadata_props
        )
        self.file = file
        self.offset = offset

    def tobytes(self) -> bytes:
        """The bytes, as ONNX raw data."""
        return self.file.read(self.offset, self.nbytes).tobytes()

    def tofile(self, file: BinaryIO) -> None:
        """Copy the bytes, a piece at a time."""
        end = self.offset + self.nbytes
        for start in range(self.offset, end, CHUNK_BYTES):
            file.write(self.file.read(start, min(CHUNK_BYTES, end - start)).data)

    def _read(self) -> ir.TensorProtocol:
        content = self.file.read(self.offset, self.nbytes)
        if self.dtype.bitwidth < 8:
            return ir.PackedTensor(content, self.dtype, shape=self.shape)
        layout = np.dtype(self.dtype.numpy()).newbyteorder("<")
        return ir.Tensor(content.view(layout).reshape(self.shape.numpy()), self.dtype)


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
