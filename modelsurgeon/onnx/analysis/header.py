"""Description of an ONNX model: file, opsets, producer, inputs and outputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir
from onnx import TypeProto

from modelsurgeon.onnx.graph.map_types import map_type
from modelsurgeon.onnx.shapes import data_inputs, open_shapes, symbols


def describe_model(model: ir.Model, symbolic: ir.Model) -> dict[str, Any]:
    """Path, format, opsets, producer, inputs and outputs of a model, as JSON has them.

    symbolic: the model with the user's bindings; dimensions that it leaves open are named by their symbols.
    """
    known_symbols, shape_of = set(symbols(symbolic)), open_shapes(symbolic)
    path = model.meta.get("modelsurgeon.path")
    return {
        "path": None if path is None else str(path),
        "format": "onnx",
        "opset": dict(model.opset_imports),
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "inputs": [_port(value, shape_of(value), known_symbols) for value in data_inputs(symbolic)],
        "outputs": [_port(value, shape_of(value), known_symbols) for value in symbolic.graph.outputs],
    }


def _port(value: ir.Value, dims: ir.Shape | None, known_symbols: set[str]) -> dict[str, Any]:
    def size(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int):
            return dim
        return str(dim) if dim.free_symbols() <= known_symbols else None

    shape = None if dims is None else [size(dim) for dim in dims]
    return {"name": value.name, "dtype": dtype_name(value), "shape": shape}


def dtype_name(value: ir.Value) -> str | None:
    """numpy's name of a value's type, such as float32, or of a container, such as seq(float32).

    None where the type is unknown.
    """
    if value.type is not None:
        return _type_name(value.type)
    return None if (kind := map_type(value)) is None else _proto_name(kind)


def _type_name(kind: ir.TypeProtocol) -> str:
    if isinstance(kind, ir.TensorType):
        return _numpy_name(kind.dtype)
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        return f"{'seq' if isinstance(kind, ir.SequenceType) else 'optional'}({_type_name(kind.elem_type)})"
    return _numpy_name(kind.dtype)


def _proto_name(kind: TypeProto) -> str:
    if kind.HasField("map_type"):
        key = _numpy_name(ir.DataType(kind.map_type.key_type))
        return f"map({key}, {_proto_name(kind.map_type.value_type)})"
    if kind.HasField("sequence_type"):
        return f"seq({_proto_name(kind.sequence_type.elem_type)})"
    if kind.HasField("optional_type"):
        return f"optional({_proto_name(kind.optional_type.elem_type)})"
    return _numpy_name(ir.DataType(kind.tensor_type.elem_type))


@cache
def _numpy_name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:
        return dtype.name.lower()
