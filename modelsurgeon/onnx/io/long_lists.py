"""Attributes with long lists of numbers or texts, such as trees: kept as protobuf holds them.

A tuple of Python numbers takes ten times their memory, and most readers need only its length.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from os import urandom
from typing import Any, overload

import numpy as np
import onnx_ir as ir
from onnx import AttributeProto

from modelsurgeon.onnx.graph.traversal import graphs

MIN_LENGTH = 4096  # entries of a list that is kept as protobuf holds it
A = AttributeProto
LIST_FIELDS = {A.FLOATS: "floats", A.INTS: "ints", A.STRINGS: "strings"}
ENTRY_BYTES = {A.FLOATS: 4, A.INTS: 8}


class LongList(Sequence[Any]):
    """The entries of an attribute's list, as numbers or texts; equal to any list of equal entries."""

    def __init__(self, proto: AttributeProto) -> None:
        """Decode texts. Raises UnicodeDecodeError for texts that aren't UTF-8."""
        self._entries = getattr(proto, LIST_FIELDS[proto.type])
        self._texts = {raw: raw.decode() for raw in set(proto.strings)}
        self.nbytes: int = _stored_bytes(proto)

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Any: ...  # noqa: ANN401 - an int, a float or a str
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """One entry, or a tuple of them."""
        found = self._entries[index]
        if isinstance(index, slice):
            return tuple(self._texts[entry] for entry in found) if self._texts else tuple(found)
        return self._texts[found] if self._texts else found

    def __iter__(self) -> Iterator[Any]:
        """The entries in order."""
        return map(self._texts.__getitem__, self._entries) if self._texts else iter(self._entries)

    def __eq__(self, other: object) -> bool:
        """Whether the entries are equal, also those of a tuple or list."""
        if isinstance(other, LongList):
            return bool(self._entries == other._entries)
        if not isinstance(other, list | tuple) or len(other) != len(self):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    def __hash__(self) -> int:
        """A number, equal for equal lists of this type."""
        return hash((len(self), self[:8], self[-8:]))


class LongListAttr(ir.Attr):
    """An attribute whose value is a `LongList`."""

    __slots__ = ("entries",)

    def __init__(self, proto: AttributeProto) -> None:
        """Keep the list. Raises UnicodeDecodeError for texts that aren't UTF-8."""
        doc_string = proto.doc_string if proto.HasField("doc_string") else None
        super().__init__(proto.name, ir.AttributeType(proto.type), None, doc_string=doc_string)
        self.entries = LongList(proto)

    @property
    def value(self) -> LongList:
        """The list."""
        return self.entries


class LongLists:
    """The long lists of one file: set aside before its nodes are parsed, and put back afterwards.

    The place of a list is marked by the attribute's text, which no file can know beforehand.
    """

    def __init__(self) -> None:
        """Start without a list."""
        self._mark = f"modelsurgeon:list:{urandom(8).hex()}:"
        self._attributes: dict[str, LongListAttr] = {}

    def set_aside(self, content: bytes) -> bytes | None:
        """The attribute in `content` with a mark in place of its list; None where it has no long one.

        Raises DecodeError for bytes that are no attribute, UnicodeDecodeError for texts that aren't UTF-8.
        """
        proto = AttributeProto.FromString(content)
        field = LIST_FIELDS.get(proto.type)
        if field is None or len(getattr(proto, field)) < MIN_LENGTH or proto.ref_attr_name:
            return None
        mark = f"{self._mark}{len(self._attributes)}"
        self._attributes[mark] = LongListAttr(proto)
        marked: bytes = AttributeProto(name=proto.name, type=proto.type, doc_string=mark).SerializeToString()
        return marked

    def put_back(self, model: ir.Model) -> None:
        """Give the attributes of a parsed model their lists."""
        if not self._attributes:
            return
        for graph in graphs(model):
            for node in graph:
                self._put_back_in(node.attributes)
        for function in model.functions.values():
            self._put_back_in(function.attributes)

    def _put_back_in(self, attributes: MutableMapping[str, ir.Attr]) -> None:
        for name, attribute in list(attributes.items()):
            if (found := self._attributes.get(attribute.doc_string or "")) is not None:
                attributes[name] = found


def digest(entries: Sequence[Any]) -> str:
    """The number of entries and their SHA-256, equal for equal lists, whatever holds them."""
    from hashlib import sha256

    if isinstance(entries[0], str):
        content = "\0".join(entries).encode()
    else:
        kind = np.float32 if isinstance(entries[0], float) else np.int64
        content = np.fromiter(entries, kind, len(entries)).tobytes()
    return f"{len(entries)} entries {sha256(content).hexdigest()[:16]}"


def _stored_bytes(proto: AttributeProto) -> int:
    if proto.type == A.STRINGS:
        return sum(map(len, proto.strings))
    return len(getattr(proto, LIST_FIELDS[proto.type])) * ENTRY_BYTES[proto.type]
