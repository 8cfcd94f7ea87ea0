"""Types of values that are maps, or sequences of maps; onnx_ir has none for these.

A value keeps such a type as text in its metadata, and gets it back when the model is written.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx import GraphProto, ModelProto, TypeProto, ValueInfoProto

TYPE_KEY = "modelsurgeon.map_type"  # value.metadata_props: the type as a protobuf message, in base 64


def has_map(kind: TypeProto) -> bool:
    """Whether a type is a map, or made of maps."""
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return has_map(getattr(kind, which).elem_type)
    return bool(which == "map_type")


@contextmanager
def without_map_types(model: ModelProto) -> Iterator[None]:
    """Move the types that have maps to the metadata of their values while the model is read."""
    moved = [info for info in _value_infos(model) if has_map(info.type)]
    originals = [ValueInfoProto.FromString(info.SerializeToString()) for info in moved]
    try:
        for info in moved:
            info.metadata_props.add(key=TYPE_KEY, value=_encoded(info.type))
            info.ClearField("type")
        yield
    finally:
        for info, original in zip(moved, originals, strict=True):
            info.CopyFrom(original)


def restore_map_types(model: ModelProto) -> None:
    """Give the values of a model that is written their types back."""
    for info in _value_infos(model):
        kept = [entry for entry in info.metadata_props if entry.key != TYPE_KEY]
        if len(kept) == len(info.metadata_props):
            continue
        text = next(entry.value for entry in info.metadata_props if entry.key == TYPE_KEY)
        info.type.ParseFromString(b64decode(text))
        entries = [(entry.key, entry.value) for entry in kept]
        del info.metadata_props[:]
        for key, value in entries:
            info.metadata_props.add(key=key, value=value)


def map_type(value: ir.Value) -> TypeProto | None:
    """The type of a value that is a map, or made of maps; None for other values."""
    text = value.metadata_props.get(TYPE_KEY)
    return None if text is None else TypeProto.FromString(b64decode(text))


def set_map_type(value: ir.Value, kind: TypeProto) -> None:
    """Record the type of a value that is a map, or made of maps."""
    value.type = None
    value.metadata_props[TYPE_KEY] = _encoded(kind)


def copy_map_type(source: ir.Value, value: ir.Value) -> None:
    """Give a value the type of another one, if that is a map or made of maps."""
    if (text := source.metadata_props.get(TYPE_KEY)) is not None:
        value.type = None
        value.metadata_props[TYPE_KEY] = text


def _encoded(kind: TypeProto) -> str:
    return b64encode(kind.SerializeToString(deterministic=True)).decode()


def _value_infos(model: ModelProto) -> Iterator[ValueInfoProto]:
    yield from _graph_value_infos(model.graph)
    for function in model.functions:
        yield from function.value_info


def _graph_value_infos(graph: GraphProto) -> Iterator[ValueInfoProto]:
    yield from (*graph.input, *graph.output, *graph.value_info)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graph_value_infos(attribute.g)
            for inner in attribute.graphs:
                yield from _graph_value_infos(inner)
