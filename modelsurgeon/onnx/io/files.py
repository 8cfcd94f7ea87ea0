"""The one way in and out for ONNX files: validated on the way in, whole or not at all on the way out."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from modelsurgeon.errors import BadModel
from modelsurgeon.files import replacing, same_file
from modelsurgeon.onnx.graph.traversal import replace_tensors
from modelsurgeon.onnx.io import protobuf, sparse, validate, validate_tensors
from modelsurgeon.onnx.io.external_data import Files
from modelsurgeon.onnx.io.lazy_tensors import DataFile, StoredTensor
from modelsurgeon.onnx.io.serialize import pack
from modelsurgeon.onnx.io.validate_text import cause
from modelsurgeon.report.formatting import escape

PATH_KEY = "modelsurgeon.path"  # model.meta: where the model came from
MAX_PROTOBUF_BYTES = 2**31 - 1  # bytes of one protobuf message
# What files begin with that people take for ONNX models, and what to do about each.
OTHER_FILES = {
    b"version https://git-lfs": "is a Git LFS pointer: fetch the model itself with `git lfs pull`",
    b"PK\x03\x04": "is a zip archive, such as .pt or .npz: export the model to ONNX",
    b"\x80": "is a Python pickle, such as .pth: export the model to ONNX",
    b"\x89HDF": "is an HDF5 file, such as .h5: export the model to ONNX",
    b"\x1f\x8b": "is compressed: unpack it first",
}


def load(path: str | Path, *, root: Path | None = None) -> ir.Model:
    """A validated model; its weights stay on disk until they are touched, wherever they lie.

    root: a folder within which links and hard links to external data are trusted, as in a download cache; if
    None, that is the model's own folder, and hard links are refused. Raises BadModel.
    """
    path = Path(path)
    try:
        file = DataFile(path)
        model = _parsed(file, Files(file, root=root))
    except BadModel as error:
        raise BadModel(f"{escape(str(path))} {error}") from error
    model.meta[PATH_KEY] = path
    return model


def from_proto(proto: ModelProto) -> ir.Model:
    """A validated model from a message in memory, whose weights it shares. Raises BadModel.

    External data is refused: a message doesn't know the folder that it came from.
    """
    try:
        return _built(proto, None)
    except (BadModel, UnicodeDecodeError, ir.serde.SerdeError) as error:
        raise BadModel(f"the ModelProto {_found(error)}") from error


def _parsed(file: DataFile, files: Files) -> ir.Model:
    _check_size(file.size)
    with file.opened() as opened, _failing_as_bad_model(opened):
        model = _built(ModelProto.FromString(protobuf.split_large_tensors(opened, file.size)), files)
    if files.used:
        replace_tensors(model, lambda tensor: _stored(tensor, files))
    return model


def _built(proto: ModelProto, files: Files | None) -> ir.Model:
    def check(tensor: TensorProto) -> None:
        validate_tensors.check(tensor, files)

    taken: dict[str, int] = {}
    if sparse.within(proto):
        proto, taken = sparse.densify(proto, check)
    ordered = validate.check(proto, check)
    model = ir.serde.deserialize_model(proto)
    if taken:
        replace_tensors(model, lambda tensor: _noted(tensor, taken))
    if not ordered:
        _sort(model)
    return model


def _noted(tensor: ir.TensorProtocol, taken: Mapping[str, int]) -> ir.TensorProtocol:
    """The tensor, with the bytes that it took as a sparse one."""
    if (size := taken.get(str(tensor.name))) is not None:
        tensor.meta[sparse.STORED_BYTES_KEY] = size
    return tensor


@contextmanager
def _failing_as_bad_model(file: BinaryIO) -> Iterator[None]:
    """Say what a file is that can't be read: by its beginning where that tells, else by the cause."""
    try:
        yield
    except (BadModel, DecodeError, UnicodeDecodeError, ir.serde.SerdeError) as error:
        file.seek(0)
        raise BadModel(_describe_file(file.read(512)) or _found(error)) from error


def _found(error: Exception) -> str:
    return str(error) if isinstance(error, BadModel) else f"can't be read as an ONNX model: {cause(error)}"


def _check_size(size: int) -> None:
    if not size:
        raise BadModel("is empty: an ONNX model is needed")
    if size > MAX_PROTOBUF_BYTES:
        raise BadModel(f"has {size} bytes: an ONNX file has 2 GB at most, larger weights lie beside it")


def _stored(tensor: ir.TensorProtocol, files: Files) -> ir.TensorProtocol:
    """A tensor that is read from where it was checked, not from where its name may lead later."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return StoredTensor(
        files.find(str(tensor.location)),
        tensor.offset or 0,
        dtype=tensor.dtype,
        shape=tensor.shape,
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _sort(model: ir.Model) -> None:
    model.graph.sort()
    for function in model.functions.values():
        function.sort()


def save(model: ir.Model, path: str | Path) -> None:
    """Write the model whole or not at all: one file, or two where it would pass 2 GB, `NAME.data` beside it.

    The model is left as it is, and can still be read when `path` is where its weights come from.
    Equal models give equal bytes. Stack traces of the exporter, which name its folders, are left out.
    Raises Unwritable, and BadModel where the graph isn't sound.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.data")
    whole = pack(model)
    if whole.size <= MAX_PROTOBUF_BYTES:
        with replacing(path) as temporary:
            _keep_readable(model, path)
            with temporary.open("wb") as file:
                whole.write(file)
        return
    # The data takes its place first: a model is never seen before its weights.
    with replacing(path) as temporary, replacing(beside) as temporary_data:
        _keep_readable(model, path, beside)
        temporary.write_bytes(whole.skeleton_beside(beside.name))
        with temporary_data.open("wb") as file:
            whole.write_weights(file)


def _keep_readable(model: ir.Model, *paths: Path) -> None:
    """Hold the files that are about to be replaced and that the model still reads from."""

    def hold(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, StoredTensor) and any(same_file(tensor.file.path, path) for path in paths):
            tensor.file.hold()
        return tensor

    replace_tensors(model, hold)


def _describe_file(head: bytes) -> str | None:
    """What begins with these bytes and what to do about it; None where they don't tell."""
    for start, what in OTHER_FILES.items():
        if head.startswith(start):
            return what
    try:
        text, _ = utf_8_decode(head, "strict", False)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    if not text or not all(char.isprintable() or char.isspace() for char in text):
        return None
    return f"is a text file that begins {text[:20]!r}: an ONNX model is needed"
