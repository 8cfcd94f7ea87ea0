"""What an ONNX file says of itself: where it comes from, its inputs and its outputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

from modelsurgeon.onnx.shapes import data_inputs, open_shapes, symbols


def describe_model(model: ir.Model, opened: ir.Model) -> dict[str, Any]:
    """The contract's description of the model itself; open dimensions are named by their symbols."""
    given, shape_of = set(symbols(opened)), open_shapes(opened)
    path = model.meta.get("modelsurgeon.path")
    return {
        "path": None if path is None else str(path),
        "format": "onnx",
        "opset": dict(model.opset_imports),
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "inputs": [_port(value, shape_of(value), given) for value in data_inputs(opened)],
        "outputs": [_port(value, shape_of(value), given) for value in opened.graph.outputs],
    }


def _port(value: ir.Value, dims: ir.Shape | None, given: set[str]) -> dict[str, Any]:
    def size(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int):
            return dim
        return str(dim) if dim.free_symbols() <= given else None

    shape = None if dims is None else [size(dim) for dim in dims]
    return {"name": value.name, "dtype": dtype_name(value), "shape": shape}


def dtype_name(value: ir.Value) -> str | None:
    """The name that numpy has for the type, such as float32."""
    return None if value.dtype is None else _name(value.dtype)


@cache
def _name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:
        return dtype.name.lower()
