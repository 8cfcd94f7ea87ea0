"""The texts in a file: names are text at all, and are shown so that they can't upset a terminal."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from onnx import StringStringEntryProto, TypeProto, ValueInfoProto

from modelsurgeon.errors import BadModel

T = TypeVar("T", bound=Hashable)


def quoted(name: str) -> str:
    """A name from a file, for messages: in quotes, control characters escaped, cut where it is endless."""
    return repr(name if len(name) <= 80 else f"{name[:40]}...{name[-37:]}")


def check_texts(*texts: str) -> None:
    """Raise BadModel for bytes that aren't UTF-8; protobuf hands these out as they are."""
    for text in texts:
        if not isinstance(text, str):
            raise BadModel(f"has the name {text!r}, which isn't UTF-8: save the model again")


def check_entries(entries: Iterable[StringStringEntryProto]) -> None:
    """The same for metadata."""
    for entry in entries:
        check_texts(entry.key, entry.value)


def check_values(values: Iterable[ValueInfoProto]) -> None:
    """The same for names, symbols and notes of inputs, outputs and what lies between."""
    for value in values:
        check_texts(value.name, value.doc_string, *_symbols(value.type))
        check_entries(value.metadata_props)


def twice(names: Iterable[T]) -> T | None:
    """The first name that was there before, or None."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _symbols(kind: TypeProto) -> Iterable[str]:
    inner = kind
    while inner.WhichOneof("value") in ("sequence_type", "optional_type"):
        inner = getattr(inner, inner.WhichOneof("value")).elem_type
    return (dim.dim_param for dim in inner.tensor_type.shape.dim)
