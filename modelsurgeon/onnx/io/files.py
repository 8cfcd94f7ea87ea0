"""Load and save ONNX files: validated when they are read, written whole or not at all."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from modelsurgeon.errors import BadModel, Unwritable
from modelsurgeon.files import is_written_through, replacing, same_file
from modelsurgeon.onnx.graph.map_types import without_map_types
from modelsurgeon.onnx.graph.traversal import replace_tensors
from modelsurgeon.onnx.io import protobuf, sparse, validate, validate_tensors
from modelsurgeon.onnx.io.external_data import Files
from modelsurgeon.onnx.io.lazy_tensors import DataFile, StoredTensor
from modelsurgeon.onnx.io.long_lists import LongLists
from modelsurgeon.onnx.io.pickling import PATH_KEY
from modelsurgeon.onnx.io.serialize import pack
from modelsurgeon.onnx.io.validate_text import root_cause
from modelsurgeon.report.formatting import escape

MAX_PROTOBUF_BYTES = 2**31 - 1  # of one protobuf message
# First bytes of file types that are mistaken for ONNX models, and what to do about each.
OTHER_FILE_TYPES = {
    b"version https://git-lfs": "is a Git LFS pointer: fetch the model itself with `git lfs pull`",
    b"PK\x03\x04": "is a zip archive, such as .pt or .npz: export the model to ONNX",
    b"\x80": "is a Python pickle, such as .pth: export the model to ONNX",
    b"\x89HDF": "is an HDF5 file, such as .h5: export the model to ONNX",
    b"\x1f\x8b": "is compressed: unpack it first",
}


def load(path: str | Path, *, root: Path | None = None) -> ir.Model:
    """A validated model from a file; weights, external data included, stay on disk until they are read.

    root: a folder within which links and hard links to external data are trusted, as in a download cache; if
    None, that is the model's own folder, and hard links are refused. Raises BadModel.
    """
    path = Path(path)
    try:
        file = DataFile(path)
        model = _parse_file(file, Files(file, root=root))
    except BadModel as error:
        raise BadModel(f"{escape(str(path))} {error}") from error
    model.meta[PATH_KEY] = path
    return model


def from_proto(proto: ModelProto) -> ir.Model:
    """A validated model from a ModelProto in memory, whose weights it shares. Raises BadModel.

    External data is refused: a ModelProto doesn't know the folder that it came from.
    """
    try:
        return _model_from_proto(proto, None)
    except (BadModel, UnicodeDecodeError, ir.serde.SerdeError) as error:
        raise BadModel(f"the ModelProto {_describe_error(error)}") from error


def _parse_file(file: DataFile, files: Files) -> ir.Model:
    _check_size(file.size)
    lists = LongLists()
    with file.opened() as opened, _raising_bad_model(opened):
        skeleton = protobuf.split_large_tensors(opened, file.size, lists.set_aside)
        model = _model_from_proto(ModelProto.FromString(skeleton), files)
    lists.put_back(model)
    if files.used:
        replace_tensors(model, lambda tensor: _as_stored_tensor(tensor, files))
    return model


def _model_from_proto(proto: ModelProto, files: Files | None) -> ir.Model:
    def check(tensor: TensorProto) -> None:
        validate_tensors.check(tensor, files)

    stored_bytes: dict[str, int] = {}
    if sparse.has_sparse(proto):
        proto, stored_bytes = sparse.densify(proto, check)
    ordered = validate.check(proto, check)
    with without_map_types(proto):
        model = ir.serde.deserialize_model(proto)
    if stored_bytes:
        replace_tensors(model, lambda tensor: _with_stored_bytes(tensor, stored_bytes))
    if not ordered:
        _sort_nodes(model)
    return model


def _with_stored_bytes(tensor: ir.TensorProtocol, stored_bytes: Mapping[str, int]) -> ir.TensorProtocol:
    """The tensor; its meta has the bytes that it took in the file as a sparse tensor, if it was one."""
    if (size := stored_bytes.get(str(tensor.name))) is not None:
        tensor.meta[sparse.STORED_BYTES_KEY] = size
    return tensor


@contextmanager
def _raising_bad_model(file: BinaryIO) -> Iterator[None]:
    """Turn errors of reading into BadModel, with the file type that the first bytes show, or the cause."""
    try:
        yield
    except (BadModel, DecodeError, UnicodeDecodeError, ir.serde.SerdeError) as error:
        file.seek(0)
        raise BadModel(_describe_file(file.read(512)) or _describe_error(error)) from error


def _describe_error(error: Exception) -> str:
    return (
        str(error) if isinstance(error, BadModel) else f"can't be read as an ONNX model: {root_cause(error)}"
    )


def _check_size(size: int) -> None:
    if not size:
        raise BadModel("is empty: an ONNX model is needed")
    if size > MAX_PROTOBUF_BYTES:
        raise BadModel(
            f"has {size} bytes: an ONNX file has 2 GB at most, save larger weights as external data"
        )


def _as_stored_tensor(tensor: ir.TensorProtocol, files: Files) -> ir.TensorProtocol:
    """The tensor, read from the file that was checked, even if another file gets its name later."""
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


def _sort_nodes(model: ir.Model) -> None:
    model.graph.sort()
    for function in model.functions.values():
        function.sort()


def save(model: ir.Model, path: str | Path) -> None:
    """Write the model whole or not at all: one file; above 2 GB, large weights go to `NAME.data` next to it.

    The model isn't changed, and can still be read when `path` is the file that its weights come from.
    Equal models give equal bytes. Stack traces of the exporter, which name its folders, are left out.
    Raises Unwritable, and BadModel where the graph isn't valid.
    """
    path = Path(path)
    data_path = path.with_name(f"{path.name}.data")
    serialized = pack(model)
    if serialized.size <= MAX_PROTOBUF_BYTES:
        with replacing(path) as temporary:
            _keep_readable(model, path)
            with temporary.open("wb") as file:
                serialized.write(file)
        return
    if is_written_through(path):
        raise Unwritable(
            f"{path}: a model above 2 GB takes two files, its weights in the second: name a file"
        )
    # The data file is moved into place first: the model file never exists without its weights.
    with replacing(path) as temporary, replacing(data_path) as temporary_data:
        _keep_readable(model, path, data_path)
        temporary.write_bytes(serialized.skeleton_with_data_in(data_path.name))
        with temporary_data.open("wb") as file:
            serialized.write_weights(file)


def _keep_readable(model: ir.Model, *paths: Path) -> None:
    """Keep the files open that are about to be replaced and that the model still reads from."""

    def keep_open(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, StoredTensor) and any(same_file(tensor.file.path, path) for path in paths):
            tensor.file.keep_open()
        return tensor

    replace_tensors(model, keep_open)


def _describe_file(head: bytes) -> str | None:
    """The file type that begins with these bytes, and what to do about it; None where it isn't known."""
    for start, description in OTHER_FILE_TYPES.items():
        if head.startswith(start):
            return description
    try:
        text, _ = utf_8_decode(head, "strict", False)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    if not text or not all(char.isprintable() or char.isspace() for char in text):
        return None
    return f"is a text file that begins {text[:20]!r}: an ONNX model is needed"
