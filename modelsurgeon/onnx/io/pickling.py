"""Pickling and deep copies of models: Python's own way fails at the depth of a long graph.

A pickle holds the model as ONNX stores it, with the large weights beside it. It holds all bytes, those of
weights in files too, and needs no file where it is opened. A deep copy shares the weights, which no verb
changes in place. Registered for `onnx_ir.Model` when this module is imported.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnx import ModelProto, TensorProto

from modelsurgeon.onnx.graph.map_types import without_map_types
from modelsurgeon.onnx.graph.traversal import replace_tensors
from modelsurgeon.onnx.io import protobuf
from modelsurgeon.onnx.io.serialize import pack
from modelsurgeon.onnx.io.sparse import STORED_BYTES_KEY

PATH_KEY = "modelsurgeon.path"  # model.meta: where the model came from


def reduce_model(model: ir.Model) -> tuple[Callable[..., ir.Model], tuple[Any, ...]]:
    """The function that makes the model again, and its arguments. Raises BadModel for an invalid graph."""
    packed = pack(model)
    notes = {PATH_KEY: model.meta[PATH_KEY]} if PATH_KEY in model.meta else {}
    weights = [_Weight(tensor) for tensor in packed.weights]
    return rebuild, (packed.skeleton, weights, _stored_bytes(model), notes)


def rebuild(
    skeleton: bytes, weights: Sequence[_Weight], stored_bytes: Mapping[str, int], notes: Mapping[str, Any]
) -> ir.Model:
    """The model of a skeleton, its large weights, the bytes of its sparse ones, and notes for its meta."""
    proto = ModelProto.FromString(skeleton)
    with without_map_types(proto):
        model = ir.serde.deserialize_model(proto)

    def put_back(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, ir.ExternalTensor) and tensor.location == protobuf.ASIDE_LOCATION:
            tensor = weights[tensor.offset or 0].tensor
        if (size := stored_bytes.get(str(tensor.name))) is not None:
            tensor.meta[STORED_BYTES_KEY] = size
        return tensor

    replace_tensors(model, put_back)
    model.meta.update(notes)
    return model


class _Weight:
    """A large weight: a deep copy shares it, a pickle holds its bytes."""

    def __init__(self, tensor: ir.TensorProtocol) -> None:
        self.tensor = tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> _Weight:
        return self

    def __reduce__(self) -> tuple[Callable[..., _Weight], tuple[bytes]]:
        tensor = self.tensor
        proto = TensorProto(
            name=tensor.name or "",
            data_type=int(tensor.dtype),
            dims=tensor.shape.numpy(),
            doc_string=tensor.doc_string or "",
            raw_data=tensor.tobytes(),
        )
        for key, value in tensor.metadata_props.items():
            proto.metadata_props.add(key=key, value=value)
        return _from_bytes, (proto.SerializeToString(),)


def _from_bytes(content: bytes) -> _Weight:
    """The weight in a serialized TensorProto."""
    return _Weight(ir.serde.deserialize_tensor(TensorProto.FromString(content)))


def _stored_bytes(model: ir.Model) -> dict[str, int]:
    """Bytes of the weights that were sparse in the file, by name."""
    found: dict[str, int] = {}

    def note(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if (size := tensor.meta.get(STORED_BYTES_KEY)) is not None:
            found[str(tensor.name)] = size
        return tensor

    replace_tensors(model, note)
    return found


copyreg.pickle(ir.Model, reduce_model)
