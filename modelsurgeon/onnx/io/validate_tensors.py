"""Checks of the tensors in a file: shape and element type are valid, and the data has exactly their size."""

from __future__ import annotations

from math import prod

import onnx_ir as ir
from onnx import TensorProto

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.io.external_data import Files, check_external_data

MAX_AXES = 64  # numpy's limit
MAX_ELEMENTS = 2**48  # more than any machine holds
# Typed field of a TensorProto -> element types that it may hold. int32_data holds int32 and all narrower
# ones.
FIELD_TYPES = {
    "float_data": {ir.DataType.FLOAT, ir.DataType.COMPLEX64},
    "double_data": {ir.DataType.DOUBLE, ir.DataType.COMPLEX128},
    "int64_data": {ir.DataType.INT64},
    "uint64_data": {ir.DataType.UINT64, ir.DataType.UINT32},
    "string_data": {ir.DataType.STRING},
}
COMPLEX_TYPES = {ir.DataType.COMPLEX64, ir.DataType.COMPLEX128}


def check(tensor: TensorProto, files: Files | None) -> None:
    """Raise BadModel where shape, element type and data don't agree. files: None refuses external data."""
    dtype = _dtype(tensor)
    count = _element_count(tensor)
    if tensor.HasField("segment"):
        raise BadModel("comes in segments, which isn't supported: save the model again")
    typed = [field for field in (*FIELD_TYPES, "int32_data") if len(getattr(tensor, field))]
    external = tensor.data_location == TensorProto.EXTERNAL
    if external and files is not None:
        files.used = True
    if len(typed) + tensor.HasField("raw_data") + external > 1:
        raise BadModel("has its values in two places: one is needed")
    if dtype == ir.DataType.STRING:
        _check_count(len(tensor.string_data), count, "strings")
    elif external:
        if files is None:
            raise BadModel("is in another file: load the model by its path")
        check_external_data(tensor, _raw_bytes(dtype, count), files)
    elif typed:
        _check_typed(tensor, typed[0], dtype, count)
    else:
        _check_count(len(tensor.raw_data), _raw_bytes(dtype, count), "bytes")


def _dtype(tensor: TensorProto) -> ir.DataType:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise BadModel(f"has the unknown element type {tensor.data_type}")
    return dtype


def _element_count(tensor: TensorProto) -> int:
    dims = list(tensor.dims)
    if len(dims) > MAX_AXES:
        raise BadModel(f"has {len(dims)} axes: {MAX_AXES} at most are read")
    if min(dims, default=0) < 0:
        raise BadModel(f"has the shape {dims}: no size is negative")
    count: int = prod(dims)
    if count > MAX_ELEMENTS:
        raise BadModel(f"has the shape {dims}: no machine holds it")
    return count


def _raw_bytes(dtype: ir.DataType, count: int) -> int:
    return (count * int(dtype.bitwidth) + 7) // 8


def _check_typed(tensor: TensorProto, field: str, dtype: ir.DataType, count: int) -> None:
    if dtype not in FIELD_TYPES.get(field, ()) and not (field == "int32_data" and _fits_int32(dtype)):
        raise BadModel(f"of type {dtype.name} has its values in {field}")
    if dtype.bitwidth in (2, 4):
        count = _raw_bytes(dtype, count)  # elements that fill one byte are stored as one number
    _check_count(len(getattr(tensor, field)), count * 2 if dtype in COMPLEX_TYPES else count, "values")


def _fits_int32(dtype: ir.DataType) -> bool:
    return dtype.bitwidth < 32 or dtype == ir.DataType.INT32


def _check_count(found: int, needed: int, what: str) -> None:
    if found != needed:
        raise BadModel(f"has {found} {what}, {needed} are needed")
