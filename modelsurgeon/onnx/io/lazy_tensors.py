"""Tensors that stay on disk: read when they are used, from the very file that was validated."""

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
    """A regular file, with its identity, size and time of change when it was opened first.

    A read that finds another file at the path, or a changed one, raises BadModel: no weight comes from bytes
    that weren't checked. `keep_open` keeps the file readable when another replaces it.
    """

    def __init__(self, path: Path) -> None:
        """Read the file's status. Raises BadModel where there is no file, or not a regular one."""
        self.path = path.absolute()
        self._open_file: BinaryIO | None = None
        self._lock = Lock()
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise BadModel(
                f"can't be opened ({getattr(error, 'strerror', error)}): check the path"
            ) from error
        if stat.S_ISDIR(status.st_mode):
            raise BadModel("is a folder: name the .onnx file in it")
        if not stat.S_ISREG(status.st_mode):
            raise BadModel("is a device or a pipe: only a regular file is read")
        self.size = status.st_size
        self.links = status.st_nlink
        self._fingerprint = _fingerprint(status)

    @property
    def is_current(self) -> bool:
        """Whether the path still leads to this very file, so that others may read it by its path."""
        try:
            return _fingerprint(self.path.stat()) == self._fingerprint
        except OSError:
            return False

    def keep_open(self) -> None:
        """Keep the file open from now on, even if its path is removed or replaced."""
        if self._open_file is None:
            self._open_file = self._open_unchanged()
            finalize(self, self._open_file.close)

    def read(self, offset: int, length: int) -> NDArray[np.uint8]:
        """`length` bytes from `offset`, read-only. Raises BadModel where the file has changed."""
        bytes_read = np.empty(length, np.uint8)
        with self.opened() as file:
            file.seek(offset)
            position = 0
            while position < length:
                count = file.readinto(bytes_read.data[position:])  # type: ignore[attr-defined]
                if not count:
                    raise self._changed_error()
                position += count
        bytes_read.flags.writeable = False
        return bytes_read

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, open for reading. Raises BadModel where it has changed."""
        if self._open_file is None:
            with self._open_unchanged() as file:
                yield file
        else:
            with self._lock:  # one position in the file for all threads
                yield self._open_file

    def _open_unchanged(self) -> BinaryIO:
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise self._changed_error() from error
        except OSError as error:
            raise BadModel(f"can't be opened ({error.strerror}): check its permissions") from error
        if _fingerprint(os.fstat(file.fileno())) != self._fingerprint:
            file.close()
            raise self._changed_error()
        return file

    def _changed_error(self) -> BadModel:
        return BadModel(f"{self.path} has changed since the model was loaded: load it again")


class StoredTensor(ir.LazyTensor):
    """A tensor whose bytes are in a file, laid out as ONNX raw data. They are read at every use."""

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
        """Remember file and offset; nothing is read."""
        super().__init__(
            self._read, dtype, shape, name=name, doc_string=doc_string, metadata_props=metadata_props
        )
        self.file = file
        self.offset = offset

    def tobytes(self) -> bytes:
        """The bytes, as ONNX raw data."""
        return self.file.read(self.offset, self.nbytes).tobytes()

    def tofile(self, file: BinaryIO) -> None:
        """Copy the bytes, a chunk at a time."""
        end = self.offset + self.nbytes
        for start in range(self.offset, end, CHUNK_BYTES):
            file.write(self.file.read(start, min(CHUNK_BYTES, end - start)).data)

    def _read(self) -> ir.TensorProtocol:
        content = self.file.read(self.offset, self.nbytes)
        if self.dtype.bitwidth < 8:
            return ir.PackedTensor(content, self.dtype, shape=self.shape)
        layout = np.dtype(self.dtype.numpy()).newbyteorder("<")
        return ir.Tensor(content.view(layout).reshape(self.shape.numpy()), self.dtype)


def _fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
