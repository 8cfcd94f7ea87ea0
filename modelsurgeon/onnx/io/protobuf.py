"""Bytes of an ONNX file: large weights are split off before it is parsed and put back when it is written.

An ONNX file is a tree of protobuf messages. Only a message large enough to hold a large tensor is entered, so
the traversal takes a step per node and per weight, however large these are. The rest is the skeleton: a model
whose large tensors are external data, and that data is the file itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, NamedTuple, Protocol

from onnx import StringStringEntryProto, TensorProto

from modelsurgeon.errors import BadModel

ASIDE_LOCATION = "modelsurgeon:aside"  # the external location of a tensor that was split off
LARGE_TENSOR_BYTES = 16 * 1024
MAX_GRAPH_DEPTH = 32  # graphs inside each other; protobuf itself ends at 100 messages, which is 33 graphs
MAX_SKELETON_BYTES = 512 * 1024**2  # a skeleton is parsed in memory

# From onnx.proto: the fields of each message that hold a tensor, at whatever depth.
FIELDS_WITH_TENSORS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
LIST_FIELDS = frozenset({7, 8, 9})  # of an attribute: floats, ints and strings, each entry a field of its own
# From onnx.proto, too: the fields of a TensorProto. Packed floats and doubles are laid out as raw data is.
DATA_TYPE, FLOAT_DATA, RAW_DATA, DOUBLE_DATA, EXTERNAL_DATA, DATA_LOCATION = 2, 4, 9, 10, 13, 14
VALUE_FIELDS = {FLOAT_DATA, 5, 6, 7, RAW_DATA, DOUBLE_DATA, 11}
PACKED_TYPES = {
    FLOAT_DATA: (TensorProto.FLOAT, TensorProto.COMPLEX64),
    DOUBLE_DATA: (TensorProto.DOUBLE, TensorProto.COMPLEX128),
}
# Wire types of protobuf.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
PAGE_BYTES = 4096  # of one read while the fields of a message are listed


class LargeTensor(Protocol):
    """A tensor that is written straight to the file, without a copy in memory."""

    @property
    def nbytes(self) -> int:
        """Bytes that it writes."""


class ByteSpan(NamedTuple):
    """A part of the file that is copied unchanged, from byte `start` to before `end`."""

    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Length of the part."""
        return self.end - self.start


class ProtobufField(NamedTuple):
    """A field of a message: `start` of its key, and its value from `body` to `end`. kind: the wire type."""

    number: int
    kind: int
    start: int
    body: int
    end: int


Piece = bytes | ByteSpan | LargeTensor


@dataclass(frozen=True, kw_only=True)
class TensorRewrite:
    """How the tensors of a file are replaced.

    enters: whether the message from start to end is searched for tensors.
    tensor: the pieces that replace the tensor from start to end; None keeps it. attribute: the bytes that
    replace an attribute with a list of numbers or texts; None keeps it.
    """

    file: BinaryIO
    enters: Callable[[int, int], bool]
    tensor: Callable[[int, int], list[Piece] | None]
    attribute: Callable[[bytes], bytes | None] = lambda _: None


def split_large_tensors(
    file: BinaryIO, length: int, set_aside: Callable[[bytes], bytes | None] = lambda _: None
) -> bytes:
    """The skeleton of an ONNX file: large tensors are references to ASIDE_LOCATION, with their file offset.

    set_aside: the bytes that replace a large attribute with a list of numbers or texts; None keeps it. Raises
    BadModel for bytes that are no protobuf, graphs nested too deep, and too large skeletons.
    """
    rewrite = TensorRewrite(
        file=file,
        enters=lambda start, end: end - start > LARGE_TENSOR_BYTES,
        tensor=lambda start, end: _set_aside(file, start, end),
        attribute=set_aside,
    )
    pieces = _rewrite_message(rewrite, ByteSpan(0, length), "model")
    if (total := total_bytes(pieces)) > MAX_SKELETON_BYTES:
        raise BadModel(
            f"takes {total >> 20} MB without its large weights: "
            f"{MAX_SKELETON_BYTES >> 20} MB at most are read"
        )
    return b"".join(_read_span(file, piece) if isinstance(piece, ByteSpan) else piece for piece in pieces)  # type: ignore[misc]


def join_large_tensors(
    skeleton: bytes, fill: Callable[[int], list[Piece]]
) -> list[bytes | memoryview | LargeTensor]:
    """The pieces of a file, in order: the skeleton's bytes, each reference in it replaced.

    A reference has ASIDE_LOCATION as its location and a number as its offset. `fill(number)` gives the pieces
    that replace it, made by `raw_data_field` or `external_reference`.
    """
    file, positions = BytesIO(skeleton), list(_reference_positions(skeleton))

    def holds_a_reference(start: int, end: int) -> bool:
        first = bisect_left(positions, start)
        return first < len(positions) and positions[first] < end

    rewrite = TensorRewrite(
        file=file,
        enters=holds_a_reference,
        tensor=lambda start, end: _replace_reference(skeleton[start:end], fill),
    )
    view = memoryview(skeleton)
    pieces = _rewrite_message(rewrite, ByteSpan(0, len(skeleton)), "model")
    return [view[piece.start : piece.end] if isinstance(piece, ByteSpan) else piece for piece in pieces]


def raw_data_field(tensor: LargeTensor) -> list[Piece]:
    """The raw_data field of a tensor: its key, then its values."""
    return [_field_header(RAW_DATA, tensor.nbytes), tensor]


def external_reference(location: str, offset: int, length: int) -> TensorProto:
    """The fields of a tensor whose values are external data: file, offset and length in bytes."""
    values = {"location": location, "offset": str(offset), "length": str(length)}
    return TensorProto(
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key=key, value=value) for key, value in values.items()],
    )


def total_bytes(pieces: Sequence[bytes | memoryview | ByteSpan | LargeTensor]) -> int:
    """Bytes of all pieces together."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def _rewrite_message(rewrite: TensorRewrite, span: ByteSpan, message: str, depth: int = 0) -> list[Piece]:
    """The message in pieces, with the tensors in it replaced."""
    depth += message == "graph"
    if depth > MAX_GRAPH_DEPTH:
        raise BadModel(f"has graphs nested {depth} deep: {MAX_GRAPH_DEPTH} at most are read")
    pieces: list[Piece] = []
    copied = span.start
    for field in _message_fields(rewrite.file, *span):
        if message == "attribute" and field.number in LIST_FIELDS:
            return _rewrite_list(rewrite, span)
        child = FIELDS_WITH_TENSORS[message].get(field.number)
        if child is None or field.kind != LENGTH_DELIMITED or not rewrite.enters(field.body, field.end):
            continue
        if child == "tensor":
            inner = rewrite.tensor(field.body, field.end)
        else:
            inner = _rewrite_message(rewrite, ByteSpan(field.body, field.end), child, depth)
        if inner is not None:
            pieces += [ByteSpan(copied, field.start), _field_header(field.number, total_bytes(inner)), *inner]
            copied = field.end
    return [*pieces, ByteSpan(copied, span.end)]


def _rewrite_list(rewrite: TensorRewrite, span: ByteSpan) -> list[Piece]:
    """An attribute that holds a list, and so no tensor. Its entries are not walked: there may be millions."""
    new = rewrite.attribute(_read_span(rewrite.file, span))
    return [span if new is None else new]


def _set_aside(file: BinaryIO, start: int, end: int) -> list[Piece] | None:
    """A tensor with a reference in place of its values; None where they are small or can't be split off."""
    fields: list[ProtobufField] = []
    value: ProtobufField | None = None
    for field in _message_fields(file, start, end):
        if field.number in VALUE_FIELDS:
            if value is not None or field.kind != LENGTH_DELIMITED:
                return None  # entry by entry: the others are not walked
            value = field
        elif field.number in (EXTERNAL_DATA, DATA_LOCATION):
            return None
        fields.append(field)
    if value is None:
        return None
    length = value.end - value.body
    if length <= LARGE_TENSOR_BYTES or not _stored_as_raw_data(value, fields, file):
        return None
    reference = external_reference(ASIDE_LOCATION, value.body, length).SerializeToString()
    return [ByteSpan(start, value.start), ByteSpan(value.end, end), reference]


def _stored_as_raw_data(value: ProtobufField, fields: Sequence[ProtobufField], file: BinaryIO) -> bool:
    if value.number == RAW_DATA:
        return True
    types = [field for field in fields if field.number == DATA_TYPE]
    if not types:
        return False
    number, _ = _read_varint(_read_span(file, ByteSpan(types[-1].body, types[-1].end)), 0)
    return number in PACKED_TYPES.get(value.number, ())


def _replace_reference(tensor: bytes, fill: Callable[[int], list[Piece]]) -> list[Piece] | None:
    """A tensor with its reference replaced, or None where it has none."""
    proto = TensorProto.FromString(tensor)
    entries = {entry.key: entry.value for entry in proto.external_data}
    if entries.get("location") != ASIDE_LOCATION:
        return None
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    return [proto.SerializeToString(), *fill(int(entries["offset"]))]


def _message_fields(file: BinaryIO, start: int, end: int) -> Iterator[ProtobufField]:
    position = start
    page, head = start, b""  # many fields are shorter than one read
    while position < end:
        if position + 2 * MAX_VARINT_BYTES > page + len(head) and page + len(head) < end:
            page, head = position, _read_span(file, ByteSpan(position, min(position + PAGE_BYTES, end)))
        key, body = _read_varint(head, position - page)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, stop = _read_varint(head, body)
        elif kind == LENGTH_DELIMITED:
            length, body = _read_varint(head, body)
            stop = body + length
        elif kind in (FIXED32, FIXED64):
            stop = body + (4 if kind == FIXED32 else 8)
        else:
            raise BadModel(f"can't be read as an ONNX model: byte {position} starts no protobuf field")
        if page + stop > end:
            raise BadModel(
                f"is cut short or no ONNX model: {page + stop - end} bytes are missing at byte {end}"
            )
        yield ProtobufField(number, kind, position, page + body, page + stop)
        position = page + stop


def _read_varint(head: bytes, position: int) -> tuple[int, int]:
    """A varint, 7 bits a byte and the lowest first, and the position behind it."""
    if position < len(head) and head[position] < 128:
        return head[position], position + 1
    value = 0
    for index in range(position, min(position + MAX_VARINT_BYTES, len(head))):
        byte = head[index]
        value |= (byte & 127) << (7 * (index - position))
        if byte < 128:
            return value, index + 1
    raise BadModel("is cut short or no ONNX model: a number in it has no end")


def _field_header(number: int, length: int) -> bytes:
    """Key and length of a length-delimited field."""
    header = bytearray()
    for value in (number << 3 | LENGTH_DELIMITED, length):
        while value > 127:
            header.append(value & 127 | 128)
            value >>= 7
        header.append(value)
    return bytes(header)


def _reference_positions(skeleton: bytes) -> Iterator[int]:
    location = ASIDE_LOCATION.encode()
    position = skeleton.find(location)
    while position >= 0:
        yield position
        position = skeleton.find(location, position + 1)


def _read_span(file: BinaryIO, span: ByteSpan) -> bytes:
    file.seek(span.start)
    content = file.read(span.nbytes)
    if len(content) < span.nbytes:
        raise BadModel("became shorter while it was read: try again")
    return content
