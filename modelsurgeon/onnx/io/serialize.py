"""A model as the bytes of an ONNX file; large weights are not read until they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.graph.map_types import restore_map_types
from modelsurgeon.onnx.graph.names import separate_hidden_names
from modelsurgeon.onnx.graph.traversal import graphs, replace_tensors
from modelsurgeon.onnx.io import promises, protobuf, validate
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor
from modelsurgeon.onnx.io.validate_text import quoted, root_cause

STACK_TRACE_KEY = "pkg.torch.onnx.stack_trace"  # names folders of the machine that exported the model
DATA_ALIGNMENT = 4096  # of each weight in a data file, so that runtimes can map it


@dataclass(frozen=True, kw_only=True)
class SerializedModel:
    """A model in parts: the skeleton, in which large weights are references, and these weights in order.

    A reference has the index of its weight as its offset.
    """

    skeleton: bytes
    weights: Sequence[ir.TensorProtocol]

    @cached_property
    def size(self) -> int:
        """Bytes of the model as one file."""
        return protobuf.total_bytes(self._pieces())

    def write(self, file: BinaryIO) -> None:
        """Write the model as one file, a weight at a time."""
        for piece in self._pieces():
            if isinstance(piece, bytes | memoryview):
                file.write(piece)
            else:
                _write_weight(piece, file)

    def with_references_to(self, folder: Path) -> SerializedModel:
        """The same model for a reader that has `folder`: weights in files there become references to them."""
        others: list[ir.TensorProtocol] = []

        def fill(number: int) -> list[protobuf.Piece]:
            weight = self.weights[number]
            if (
                isinstance(weight, StoredTensor)
                and weight.file.path.parent == folder
                and weight.file.is_current
            ):
                return _reference_bytes(weight.file.path.name, weight.offset, weight.nbytes)
            others.append(weight)
            return _reference_bytes(protobuf.ASIDE_LOCATION, len(others) - 1, weight.nbytes)

        return SerializedModel(skeleton=self._join(fill), weights=others)

    def skeleton_with_data_in(self, location: str) -> bytes:
        """The model with its large weights as external data in `location`, written by `write_weights`."""
        offsets = list(self._offsets())
        return self._join(
            lambda number: _reference_bytes(location, offsets[number], self.weights[number].nbytes)
        )

    def write_weights(self, file: BinaryIO) -> None:
        """Write the large weights, each at a multiple of DATA_ALIGNMENT."""
        position = 0
        for offset, weight in zip(self._offsets(), self.weights, strict=True):
            file.write(b"\0" * (offset - position))
            _write_weight(weight, file)
            position = offset + weight.nbytes

    def _pieces(self) -> list[protobuf.Piece]:
        return protobuf.join_large_tensors(
            self.skeleton, lambda number: protobuf.raw_data_field(self.weights[number])
        )

    def _join(self, fill: Callable[[int], list[protobuf.Piece]]) -> bytes:
        return b"".join(protobuf.join_large_tensors(self.skeleton, fill))  # type: ignore[arg-type]

    def _offsets(self) -> Iterator[int]:
        offset = 0
        for weight in self.weights:
            yield offset
            offset += -(-weight.nbytes // DATA_ALIGNMENT) * DATA_ALIGNMENT


def pack(model: ir.Model) -> SerializedModel:
    """The model in parts; it isn't changed. Raises BadModel where its graph or its `promises` don't hold."""
    promises.check(model)
    clone = copy(model)
    weights: list[ir.TensorProtocol] = []

    def set_aside(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if not _should_set_aside(tensor):
            return tensor
        weights.append(tensor)
        return _placeholder(tensor, len(weights) - 1)

    replace_tensors(clone, set_aside)
    _drop_stack_traces(clone)
    separate_hidden_names(clone)
    try:
        proto = ir.serde.serialize_model(clone)
    except ir.serde.SerdeError as error:
        raise BadModel(f"the model can't be written: {root_cause(error)}") from error
    restore_map_types(proto)
    validate.check(proto, lambda _: None)
    return SerializedModel(skeleton=proto.SerializeToString(deterministic=True), weights=weights)


def copy(model: ir.Model) -> ir.Model:
    """A copy of the model that shares the tensors. Raises BadModel for an input that no node makes."""
    try:
        return model.clone()
    except RuntimeError as error:
        undefined = ", ".join(_undefined_inputs(model)) or root_cause(error)
        raise BadModel(f"the graph isn't valid, no node makes {undefined}: repair it first") from error


def _undefined_inputs(model: ir.Model) -> Iterator[str]:
    for graph in graphs(model):
        for node in graph:
            for value in node.inputs:
                if value is not None and value.producer() is None and value.graph is None:
                    yield quoted(str(value.name))


def _should_set_aside(tensor: ir.TensorProtocol) -> bool:
    if isinstance(tensor, ir.ExternalTensor):
        return True
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes > protobuf.LARGE_TENSOR_BYTES


def _reference_bytes(location: str, offset: int, length: int) -> list[protobuf.Piece]:
    return [protobuf.external_reference(location, offset, length).SerializeToString()]


def _placeholder(tensor: ir.TensorProtocol, number: int) -> ir.ExternalTensor:
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


def _drop_stack_traces(model: ir.Model) -> None:
    for graph in graphs(model):
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.pop(STACK_TRACE_KEY, None)
        for node in graph:
            node.metadata_props.pop(STACK_TRACE_KEY, None)
            for value in node.outputs:
                value.metadata_props.pop(STACK_TRACE_KEY, None)


def _write_weight(weight: protobuf.LargeTensor, file: BinaryIO) -> None:
    start = file.tell()
    if hasattr(weight, "tofile"):
        weight.tofile(file)
    else:
        file.write(weight.tobytes())  # type: ignore[attr-defined]
    if file.tell() - start != weight.nbytes:
        name = getattr(weight, "name", None)
        raise BadModel(f"weight {name!r} gave {file.tell() - start} bytes, {weight.nbytes} are needed")
