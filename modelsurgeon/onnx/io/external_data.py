"""External data: found and checked. Only regular files in the model's folder are read."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from onnx import TensorProto

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.io.lazy_tensors import DataFile
from modelsurgeon.onnx.io.protobuf import ASIDE_LOCATION


class Files:
    """The files that hold a model's weights: the model's own, and those in its folder.

    root: a folder within which links and hard links are trusted, as in a download cache.
    used: whether any tensor is stored outside of the skeleton that is parsed.
    """

    used = False

    def __init__(self, model: DataFile, *, root: Path | None = None) -> None:
        """Remember the folders; no file is opened."""
        self._folder = model.path.parent
        self._allowed_folders = [self._folder.resolve(), *([root.resolve()] if root else [])]
        self._trusts_links = root is not None
        self._files = {ASIDE_LOCATION: model}

    def find(self, location: str) -> DataFile:
        """The file of an external location. Raises BadModel where it may not be read, or doesn't exist."""
        if location not in self._files:
            self._files[location] = self._find_and_check(location)
        return self._files[location]

    def _find_and_check(self, location: str) -> DataFile:
        if not location or "\0" in location or _leaves_folder(location):
            raise BadModel(f"has data at {location!r}: only a path inside the model's folder is read")
        path = self._folder / location
        try:
            real = path.resolve()
            file = DataFile(real)
        except (BadModel, OSError, RuntimeError) as error:
            raise BadModel(f"needs its data file {location!r}, which {_describe_error(error)}") from error
        if not any(real.is_relative_to(folder) for folder in self._allowed_folders):
            raise BadModel(f"has data at {location!r}, a link out of the model's folder: copy the file there")
        if file.links > 1 and not self._trusts_links:
            raise BadModel(
                f"has data at {location!r}, which is a hard link to a file elsewhere: copy the file"
            )
        return file


def check_external_data(tensor: TensorProto, needed: int, files: Files) -> None:
    """Check that an external tensor's `needed` bytes are in the file that it names. Raises BadModel."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) < len(tensor.external_data) or not isinstance(entries.get("location"), str):
        raise BadModel("has external data without one clear location")
    offset, length = (_optional_integer(entries, key) for key in ("offset", "length"))
    if length is not None and length != needed:
        raise BadModel(f"has {length} bytes, {needed} are needed")
    file = files.find(entries["location"])
    if (offset or 0) + needed > file.size:
        raise BadModel(
            f"ends at byte {(offset or 0) + needed} of {file.path.name}, which has {file.size}: copy it again"
        )


def _optional_integer(entries: dict[str, str], key: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadModel(f"has the {key} {text!r}: a whole number from 0 on is needed")
    return int(text)


def _leaves_folder(location: str) -> bool:
    """Whether a path is absolute or has `..`. The rules of Windows cover those of the other systems."""
    path = PureWindowsPath(location)
    return bool(path.anchor) or ".." in path.parts


def _describe_error(error: Exception) -> str:
    return str(error) if isinstance(error, BadModel) else f"can't be reached ({error})"
