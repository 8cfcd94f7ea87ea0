"""Where external data lies, and whether it may be read: regular files in the model's folder, nothing else."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from onnx import TensorProto

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.io.lazy_tensors import DataFile
from modelsurgeon.onnx.io.protobuf import ASIDE_LOCATION


class Files:
    """The files that hold a model's weights: the model's own, and those that lie in its folder.

    root: a folder within which links and hard links are trusted, as in a download cache.
    used: whether any tensor lies outside of the skeleton that is parsed.
    """

    used = False

    def __init__(self, model: DataFile, *, root: Path | None = None) -> None:
        """Remember where to look; nothing is opened."""
        self._folder = model.path.parent
        self._within = [self._folder.resolve(), *([root.resolve()] if root else [])]
        self._trusts_links = root is not None
        self._known = {ASIDE_LOCATION: model}

    def find(self, location: str) -> DataFile:
        """The file of an external location. Raises BadModel where it may not be read, or isn't there."""
        if location not in self._known:
            self._known[location] = self._look(location)
        return self._known[location]

    def _look(self, location: str) -> DataFile:
        if not location or "\0" in location or _leads_out(location):
            raise BadModel(f"has data at {location!r}: only a path inside the model's folder is read")
        path = self._folder / location
        try:
            real = path.resolve()
            file = DataFile(real)
        except (BadModel, OSError, RuntimeError) as error:
            raise BadModel(f"needs its data file {location!r}, which {_because(error)}") from error
        if not any(real.is_relative_to(folder) for folder in self._within):
            raise BadModel(f"has data at {location!r}, a link out of the model's folder: copy the file there")
        if file.links > 1 and not self._trusts_links:
            raise BadModel(
                f"has data at {location!r}, which is a hard link to a file elsewhere: copy the file"
            )
        return file


def place_tensor(tensor: TensorProto, needed: int, files: Files) -> None:
    """Check that an external tensor's values lie where it says. Raises BadModel."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) < len(tensor.external_data) or not isinstance(entries.get("location"), str):
        raise BadModel("has external data without one clear location")
    offset, length = (_number(entries, key) for key in ("offset", "length"))
    if length is not None and length != needed:
        raise BadModel(f"has {length} bytes, {needed} are needed")
    file = files.find(entries["location"])
    if (offset or 0) + needed > file.size:
        raise BadModel(
            f"ends at byte {(offset or 0) + needed} of {file.path.name}, which has {file.size}: copy it again"
        )


def _number(entries: dict[str, str], key: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadModel(f"has the {key} {text!r}: a whole number from 0 on is needed")
    return int(text)


def _leads_out(location: str) -> bool:
    """Whether a path is absolute or climbs, by the rules of any system: those of Windows hold the others'."""
    path = PureWindowsPath(location)
    return bool(path.anchor) or ".." in path.parts


def _because(error: Exception) -> str:
    return str(error) if isinstance(error, BadModel) else f"can't be reached ({error})"
