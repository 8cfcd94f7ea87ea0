"""A model as the bytes of an ONNX file, its large weights left where they are until they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.graph.traversal import graphs, replace_tensors
from modelsurgeon.onnx.io import protobuf, validate
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor
from modelsurgeon.onnx.io.validate_text import cause, quoted

STACK_TRACE = "pkg.torch.onnx.stack_trace"  # names folders of the machine that exported the model
DATA_ALIGNMENT = 4096  # where data beside a model starts, so that runtimes can map it


@dataclass(frozen=True, kw_only=True)
class SerializedModel:
    """A model in parts: the skeleton, in which large weights are references, and these weights in order."""

    skeleton: bytes
    weights: Sequence[ir.TensorProtocol]

    @cached_property
    def size(self) -> int:
        """Bytes of the model as one file."""
        return protobuf.size(self._pieces())

    def write(self, file: BinaryIO) -> None:
        """Write the model as one file, a weight at a time."""
        for piece in self._pieces():
            if isinstance(piece, bytes | memoryview):
                file.write(piece)
            else:
                _write(piece, file)

    def referring(self, folder: Path) -> SerializedModel:
        """The same model, for one who can read `folder`: weights that lie in its files stay there."""
        rest: list[ir.TensorProtocol] = []

        def fill(number: int) -> list[protobuf.Piece]:
            weight = self.weights[number]
            if (
                isinstance(weight, StoredTensor)
                and weight.file.path.parent == folder
                and weight.file.in_place
            ):
                return _part(weight.file.path.name, weight.offset, weight.nbytes)
            rest.append(weight)
            return _part(protobuf.ASIDE_LOCATION, len(rest) - 1, weight.nbytes)

        return SerializedModel(skeleton=self._joined(fill), weights=rest)

    def skeleton_beside(self, location: str) -> bytes:
        """The model without its large weights; `write_weights` writes those to `location`."""
        offsets = list(self._offsets())
        return self._joined(lambda number: _part(location, offsets[number], self.weights[number].nbytes))

    def write_weights(self, file: BinaryIO) -> None:
        """Write the large weights, each at the start of a page."""
        at = 0
        for offset, weight in zip(self._offsets(), self.weights, strict=True):
            file.write(b"\0" * (offset - at))
            _write(weight, file)
            at = offset + weight.nbytes

    def _pieces(self) -> list[protobuf.Piece]:
        return protobuf.join_large_tensors(
            self.skeleton, lambda number: protobuf.values(self.weights[number])
        )

    def _joined(self, fill: Callable[[int], list[protobuf.Piece]]) -> bytes:
        return b"".join(protobuf.join_large_tensors(self.skeleton, fill))  # type: ignore[arg-type]

    def _offsets(self) -> Iterator[int]:
        at = 0
        for weight in self.weights:
            yield at
            at += -(-weight.nbytes // DATA_ALIGNMENT) * DATA_ALIGNMENT


def pack(model: ir.Model) -> SerializedModel:
    """The model in parts; it is left as it is. Raises BadModel where its graph isn't sound."""
    clone = copy(model)
    weights: list[ir.TensorProtocol] = []

    def set_aside(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if not _goes_aside(tensor):
            return tensor
        weights.append(tensor)
        return _reference(tensor, len(weights) - 1)

    replace_tensors(clone, set_aside)
    _strip(clone)
    try:
        proto = ir.serde.serialize_model(clone)
    except ir.serde.SerdeError as error:
        raise BadModel(f"the model can't be written: {cause(error)}") from error
    validate.check(proto, lambda _: None)
    return SerializedModel(skeleton=proto.SerializeToString(deterministic=True), weights=weights)


def copy(model: ir.Model) -> ir.Model:
    """A model of its own that shares the tensors. Raises BadModel where a node needs what nothing makes."""
    try:
        return model.clone()
    except RuntimeError as error:
        astray = ", ".join(_astray(model)) or cause(error)
        raise BadModel(f"the graph isn't sound, nothing makes {astray}: mend it first") from error


def _astray(model: ir.Model) -> Iterator[str]:
    for graph in graphs(model):
        for node in graph:
            for value in node.inputs:
                if value is not None and value.producer() is None and value.graph is None:
                    yield quoted(str(value.name))


def _goes_aside(tensor: ir.TensorProtocol) -> bool:
    if isinstance(tensor, ir.ExternalTensor):
        return True
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes > protobuf.LARGE_TENSOR_BYTES


def _part(location: str, offset: int, length: int) -> list[protobuf.Piece]:
    return [protobuf.reference(location, offset, length).SerializeToString()]


def _reference(tensor: ir.TensorProtocol, number: int) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        protobuf.ASIDE_LOCATION,
        number,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _strip(model: ir.Model) -> None:
    for graph in graphs(model):
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.pop(STACK_TRACE, None)
        for node in graph:
            node.metadata_props.pop(STACK_TRACE, None)
            for value in node.outputs:
                value.metadata_props.pop(STACK_TRACE, None)


def _write(weight: protobuf.LargeTensor, file: BinaryIO) -> None:
    start = file.tell()
    if hasattr(weight, "tofile"):
        weight.tofile(file)
    else:
        file.write(weight.tobytes())  # type: ignore[attr-defined]
    if file.tell() - start != weight.nbytes:
        name = getattr(weight, "name", None)
        raise BadModel(f"weight {name!r} gave {file.tell() - start} bytes, {weight.nbytes} are needed")
