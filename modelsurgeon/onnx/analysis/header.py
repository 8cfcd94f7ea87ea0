"""Description of an ONNX model: file, opsets, producer, inputs and outputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

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
    """numpy's name of a value's type, such as float32; None where the type is unknown."""
    return None if value.dtype is None else _numpy_name(value.dtype)


@cache
def _numpy_name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:
        return dtype.name.lower()
