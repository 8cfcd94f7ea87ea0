"""Sparse weights as dense ones, as a runtime loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    numpy_helper,
)

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.io.validate_text import quoted

STORED_BYTES_KEY = "modelsurgeon.stored"  # tensor.meta: bytes of the sparse tensor in the file
MAX_SPARSE_ELEMENTS = 2**28  # a small file must not ask for all memory
Check = Callable[[TensorProto], None]


def has_sparse(model: ModelProto) -> bool:
    """Whether a weight or a Constant of the model is sparse."""
    return _graph_has_sparse(model.graph) or any(map(_node_has_sparse, _nodes_of_functions(model)))


def densify(model: ModelProto, check: Check) -> tuple[ModelProto, dict[str, int]]:
    """A copy with all sparse tensors made dense, and the bytes of the sparse ones by name.

    check: raises BadModel for a tensor whose shape, type and data don't agree. Raises BadModel for indices
    that don't fit.
    """
    copy, stored = ModelProto(), dict[str, int]()
    copy.CopyFrom(model)
    _densify_graph(copy.graph, check, stored)
    for node in _nodes_of_functions(copy):
        _densify_node(node, check, stored)
    return copy, stored


def _nodes_of_functions(model: ModelProto) -> Iterator[NodeProto]:
    return (node for function in model.functions for node in function.node)


def _graph_has_sparse(graph: GraphProto) -> bool:
    return bool(graph.sparse_initializer) or any(map(_node_has_sparse, graph.node))


def _node_has_sparse(node: NodeProto) -> bool:
    return any(
        attribute.type == AttributeProto.SPARSE_TENSOR
        or (attribute.type == AttributeProto.GRAPH and _graph_has_sparse(attribute.g))
        or any(map(_graph_has_sparse, attribute.graphs))
        for attribute in node.attribute
    )


def _densify_graph(graph: GraphProto, check: Check, stored: dict[str, int]) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_to_dense(sparse, sparse.values.name, check, stored))
    del graph.sparse_initializer[:]
    for node in graph.node:
        _densify_node(node, check, stored)


def _densify_node(node: NodeProto, check: Check, stored: dict[str, int]) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.SPARSE_TENSOR and node.op_type == "Constant" and node.output:
            dense = _to_dense(attribute.sparse_tensor, node.output[0], check, stored)
            attribute.CopyFrom(AttributeProto(name="value", type=AttributeProto.TENSOR, t=dense))
        elif attribute.type == AttributeProto.GRAPH:
            _densify_graph(attribute.g, check, stored)
        for graph in attribute.graphs:
            _densify_graph(graph, check, stored)


def _to_dense(sparse: SparseTensorProto, name: str, check: Check, stored: dict[str, int]) -> TensorProto:
    where = f"holds the sparse tensor {quoted(name)}, which"
    dims = list(sparse.dims)
    try:
        check(sparse.values)
        check(sparse.indices)
    except BadModel as error:
        raise BadModel(f"{where} {error}") from error
    if TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise BadModel(f"{where} is in another file: save the model with it inside")
    if any(dim < 0 for dim in dims) or prod(dims) > MAX_SPARSE_ELEMENTS:
        raise BadModel(f"{where} has the shape {dims}: at most {MAX_SPARSE_ELEMENTS} elements are made dense")
    if sparse.values.data_type == TensorProto.STRING:
        raise BadModel(f"{where} holds strings: make it dense")
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(prod(dims), values.dtype)
    dense[_flat_indices(indices, dims, len(values), where)] = values
    stored[name] = values.nbytes + indices.nbytes
    return numpy_helper.from_array(dense.reshape(dims), name)


def _flat_indices(indices: NDArray[Any], dims: list[int], count: int, where: str) -> NDArray[Any]:
    """Indices (count,) into the flat tensor, from indices of that form or of the form (count, axes)."""
    is_flat = indices.ndim == 1
    if indices.dtype != np.int64 or indices.shape != ((count,) if is_flat else (count, len(dims))):
        raise BadModel(f"{where} has indices of shape {indices.shape} for {count} values: one each is needed")
    limits = prod(dims) if is_flat else np.asarray(dims)
    if np.any(indices < 0) or np.any(indices >= limits):
        raise BadModel(f"{where} has an index outside of its shape {dims}")
    return indices if is_flat else np.ravel_multi_index(tuple(indices.T), dims)
