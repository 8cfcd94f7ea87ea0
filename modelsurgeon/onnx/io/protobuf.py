"""The bytes of an ONNX file: large weights are set aside before it is parsed, put back when it is written.

An ONNX file is a tree of protobuf messages. Only a message large enough to hold a large tensor is entered, so
the walk takes a step per node and per weight, whatever they weigh. What is left is the skeleton: a model
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

ASIDE_LOCATION = "modelsurgeon:aside"  # the external location of a tensor that was set aside
LARGE_TENSOR_BYTES = 16 * 1024
MAX_GRAPH_DEPTH = 32  # graphs inside each other; protobuf itself ends at 100 messages, which is 33 graphs
SKELETON = 512 * 1024**2

# From onnx.proto: the fields of each message in which a tensor lies, at whatever depth.
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
# From onnx.proto, too: the fields of a tensor. Packed floats and doubles are laid out as raw data is.
DATA_TYPE, FLOATS, RAW, DOUBLES, EXTERNAL, LOCATION = 2, 4, 9, 10, 13, 14
VALUES = {FLOATS, 5, 6, 7, RAW, DOUBLES, 11}
PACKED = {
    FLOATS: (TensorProto.FLOAT, TensorProto.COMPLEX64),
    DOUBLES: (TensorProto.DOUBLE, TensorProto.COMPLEX128),
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST = 10  # bytes of a number
READ_BYTES = 4096  # bytes


class LargeTensor(Protocol):
    """A tensor that is written where it belongs, not held in between."""

    @property
    def nbytes(self) -> int:
        """Bytes that it will write."""


class ByteSpan(NamedTuple):
    """A part of the file that stays as it is."""

    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Its length."""
        return self.end - self.start


class ProtobufField(NamedTuple):
    """A field of a message: where its key starts, and its value from `body` to `end`."""

    number: int
    kind: int
    start: int
    body: int
    end: int


Piece = bytes | ByteSpan | LargeTensor


@dataclass(frozen=True, kw_only=True)
class ProtobufWalk:
    """A walk through a file: which messages it enters, by where they start and end, and what it makes of a
    tensor in them; None is to leave it as it is.
    """

    file: BinaryIO
    enters: Callable[[int, int], bool]
    tensor: Callable[[int, int], list[Piece] | None]


def split_large_tensors(file: BinaryIO, length: int) -> bytes:
    """The skeleton of an ONNX file: large tensors are references to ASIDE, with their place in the file.

    Raises BadModel for bytes that are no protobuf, graphs nested too deep, and skeletons beyond reason.
    """
    walk = ProtobufWalk(
        file=file,
        enters=lambda start, end: end - start > LARGE_TENSOR_BYTES,
        tensor=lambda start, end: _aside(file, start, end),
    )
    pieces = _rewritten(walk, ByteSpan(0, length), "model")
    if (total := size(pieces)) > SKELETON:
        raise BadModel(
            f"takes {total >> 20} MB without its large weights: {SKELETON >> 20} MB at most are read"
        )
    return b"".join(_read(file, piece) if isinstance(piece, ByteSpan) else piece for piece in pieces)  # type: ignore[misc]


def join_large_tensors(
    skeleton: bytes, fill: Callable[[int], list[Piece]]
) -> list[bytes | memoryview | LargeTensor]:
    """The pieces of a file, in order: the skeleton's bytes, each reference in it replaced.

    A reference has ASIDE as its location and a number as its offset; `fill(number)` takes its place, made by
    `values` or `reference`.
    """
    file, marks = BytesIO(skeleton), list(_marks(skeleton))

    def holds_a_mark(start: int, end: int) -> bool:
        after = bisect_left(marks, start)
        return after < len(marks) and marks[after] < end

    walk = ProtobufWalk(
        file=file,
        enters=holds_a_mark,
        tensor=lambda start, end: _filled(skeleton[start:end], fill),
    )
    view = memoryview(skeleton)
    pieces = _rewritten(walk, ByteSpan(0, len(skeleton)), "model")
    return [view[piece.start : piece.end] if isinstance(piece, ByteSpan) else piece for piece in pieces]


def values(heavy: LargeTensor) -> list[Piece]:
    """The part of a tensor that holds its values."""
    return [_key(RAW, heavy.nbytes), heavy]


def reference(location: str, offset: int, length: int) -> TensorProto:
    """The part of a tensor that says where its values lie."""
    values = {"location": location, "offset": str(offset), "length": str(length)}
    return TensorProto(
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key=key, value=value) for key, value in values.items()],
    )


def size(pieces: Sequence[bytes | memoryview | ByteSpan | LargeTensor]) -> int:
    """Bytes that the pieces come to."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def _rewritten(walk: ProtobufWalk, span: ByteSpan, message: str, depth: int = 0) -> list[Piece]:
    """The message in pieces, each tensor in it replaced by what the walk makes of it."""
    depth += message == "graph"
    if depth > MAX_GRAPH_DEPTH:
        raise BadModel(f"has graphs nested {depth} deep: {MAX_GRAPH_DEPTH} at most are read")
    pieces: list[Piece] = []
    kept = span.start
    for field in _fields(walk.file, *span):
        child = CHILDREN[message].get(field.number)
        if child is None or field.kind != BYTES or not walk.enters(field.body, field.end):
            continue
        if child == "tensor":
            inner = walk.tensor(field.body, field.end)
        else:
            inner = _rewritten(walk, ByteSpan(field.body, field.end), child, depth)
        if inner is not None:
            pieces += [ByteSpan(kept, field.start), _key(field.number, size(inner)), *inner]
            kept = field.end
    return [*pieces, ByteSpan(kept, span.end)]


def _aside(file: BinaryIO, start: int, end: int) -> list[Piece] | None:
    """A tensor without its values and with a reference to them, or None where they must stay."""
    fields = list(_fields(file, start, end))
    values = [field for field in fields if field.number in VALUES]
    if len(values) != 1 or any(field.number in (EXTERNAL, LOCATION) for field in fields):
        return None
    (value,) = values
    length = value.end - value.body
    if value.kind != BYTES or length <= LARGE_TENSOR_BYTES or not _like_raw(value, fields, file):
        return None
    place = reference(ASIDE_LOCATION, value.body, length).SerializeToString()
    return [ByteSpan(start, value.start), ByteSpan(value.end, end), place]


def _like_raw(value: ProtobufField, fields: Sequence[ProtobufField], file: BinaryIO) -> bool:
    if value.number == RAW:
        return True
    types = [field for field in fields if field.number == DATA_TYPE]
    if not types:
        return False
    number, _ = _varint(_read(file, ByteSpan(types[-1].body, types[-1].end)), 0)
    return number in PACKED.get(value.number, ())


def _filled(part: bytes, fill: Callable[[int], list[Piece]]) -> list[Piece] | None:
    """A tensor with its reference replaced, or None where it has none."""
    proto = TensorProto.FromString(part)
    entries = {entry.key: entry.value for entry in proto.external_data}
    if entries.get("location") != ASIDE_LOCATION:
        return None
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    return [proto.SerializeToString(), *fill(int(entries["offset"]))]


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[ProtobufField]:
    at = start
    page, ahead = start, b""  # many fields are shorter than what is read at once
    while at < end:
        if at + 2 * LONGEST > page + len(ahead) and page + len(ahead) < end:
            page, ahead = at, _read(file, ByteSpan(at, min(at + READ_BYTES, end)))
        key, body = _varint(ahead, at - page)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, stop = _varint(ahead, body)
        elif kind == BYTES:
            length, body = _varint(ahead, body)
            stop = body + length
        elif kind in (FIXED32, FIXED64):
            stop = body + (4 if kind == FIXED32 else 8)
        else:
            raise BadModel(f"can't be read as an ONNX model: byte {at} starts no protobuf field")
        if page + stop > end:
            raise BadModel(
                f"is cut short or no ONNX model: {page + stop - end} bytes are missing at byte {end}"
            )
        yield ProtobufField(number, kind, at, page + body, page + stop)
        at = page + stop


def _varint(head: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    if at < len(head) and head[at] < 128:
        return head[at], at + 1
    value = 0
    for index in range(at, min(at + LONGEST, len(head))):
        byte = head[index]
        value |= (byte & 127) << (7 * (index - at))
        if byte < 128:
            return value, index + 1
    raise BadModel("is cut short or no ONNX model: a number in it has no end")


def _key(number: int, length: int) -> bytes:
    """How a field of bytes begins."""
    made = bytearray()
    for value in (number << 3 | BYTES, length):
        while value > 127:
            made.append(value & 127 | 128)
            value >>= 7
        made.append(value)
    return bytes(made)


def _marks(skeleton: bytes) -> Iterator[int]:
    mark = ASIDE_LOCATION.encode()
    at = skeleton.find(mark)
    while at >= 0:
        yield at
        at = skeleton.find(mark, at + 1)


def _read(file: BinaryIO, span: ByteSpan) -> bytes:
    file.seek(span.start)
    found = file.read(span.nbytes)
    if len(found) < span.nbytes:
        raise BadModel("became shorter while it was read: try again")
    return found
