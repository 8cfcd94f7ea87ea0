"""Checks of the texts and types in a file: names are UTF-8, types exist; names are escaped for messages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

import onnx_ir as ir
from onnx import StringStringEntryProto, TypeProto, ValueInfoProto

from modelsurgeon.errors import BadModel

T = TypeVar("T", bound=Hashable)
TEXT_TYPES = frozenset({str})
ELEMENT_TYPES = {kind.value for kind in ir.DataType}
MAP_KEY_TYPES = {kind.value for kind in ir.DataType if kind.is_integer() or kind == ir.DataType.STRING}


def quoted(name: str) -> str:
    """A name from a file, for messages: in quotes, control characters escaped, long names shortened."""
    return repr(name if len(name) <= 80 else f"{name[:40]}...{name[-37:]}")


def root_cause(error: BaseException) -> str:
    """The message of the error that was raised first, in one quoted line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines() or [type(error).__name__]
    return quoted(lines[0])


def check_texts(*texts: str) -> None:
    """Raise BadModel for texts that aren't UTF-8; protobuf returns these as bytes."""
    if TEXT_TYPES.issuperset(map(type, texts)):
        return
    for text in texts:
        if not isinstance(text, str):
            raise BadModel(f"has the name {text!r}, which isn't UTF-8: save the model again")


def check_entries(entries: Iterable[StringStringEntryProto]) -> None:
    """Raise BadModel for keys or values of metadata that aren't UTF-8."""
    for entry in entries:
        check_texts(entry.key, entry.value)


def check_values(values: Iterable[ValueInfoProto]) -> None:
    """Raise BadModel for inputs, outputs or other values with texts that aren't UTF-8 or unknown types."""
    for value in values:
        check_texts(value.name, value.doc_string)
        check_entries(value.metadata_props)
        check_type(value.type, value.name)


def check_type(kind: TypeProto, name: str) -> None:
    """Raise BadModel for a type of a value that doesn't exist."""
    check_texts(kind.denotation)
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        inner = getattr(kind, which).elem_type
        if inner.WhichOneof("value") is None:
            raise BadModel(f"has {quoted(name)}, a {which.removesuffix('_type')} of nothing")
        check_type(inner, name)
    elif which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, which)
        if tensor.elem_type not in ELEMENT_TYPES:
            raise BadModel(f"has {quoted(name)} of the unknown element type {tensor.elem_type}")
        check_texts(*(text for dim in tensor.shape.dim for text in (dim.dim_param, dim.denotation)))
    elif which == "map_type":
        if kind.map_type.key_type not in MAP_KEY_TYPES or not kind.map_type.HasField("value_type"):
            raise BadModel(f"has {quoted(name)}, a map whose keys are no integers or texts, or of nothing")
        check_type(kind.map_type.value_type, name)
    elif which is not None:
        raise BadModel(
            f"has {quoted(name)}, a {which.removesuffix('_type')}, which isn't supported: cut it off"
        )


def first_duplicate(names: Iterable[T]) -> T | None:
    """The first name that occurs a second time, or None."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
