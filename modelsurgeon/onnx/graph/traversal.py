"""Traversal of a model: all its nodes, graphs and tensors, in subgraphs and functions, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence

import onnx_ir as ir

Swap = Callable[[ir.TensorProtocol], ir.TensorProtocol]

TENSOR_ATTRIBUTES = frozenset({ir.AttributeType.TENSOR, ir.AttributeType.TENSORS})
CACHED_NODES = "modelsurgeon.nodes"  # model.meta: all nodes, once none is added or removed any more
CACHED_BODIES = "modelsurgeon.bodies"  # model.meta: all graphs inside these nodes


def nodes(model: ir.Model) -> Sequence[ir.Node]:
    """Every node of the graph and of its subgraphs, in file order."""
    found: Sequence[ir.Node] | None = model.meta.get(CACHED_NODES)
    return tuple(model.graph.all_nodes()) if found is None else found


def bodies(model: ir.Model) -> Sequence[ir.Graph]:
    """The graphs inside the nodes of the main graph, at whatever depth."""
    found: Sequence[ir.Graph] | None = model.meta.get(CACHED_BODIES)
    return tuple(model.graph.subgraphs()) if found is None else found


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, those of functions, and all graphs inside their nodes."""
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.subgraphs()


def replace_tensors(model: ir.Model, swap: Swap) -> None:
    """Replace every tensor by `swap(tensor)`: in initializers, attributes and defaults of attributes."""
    for graph in graphs(model):
        for value in graph.initializers.data.values():
            tensor = value.const_value
            if tensor is not None and (new_tensor := swap(tensor)) is not tensor:
                value.const_value = new_tensor
        for node in graph:
            if node.attributes:
                _replace_in_attributes(node.attributes, swap)
    for function in model.functions.values():
        _replace_in_attributes(function.attributes, swap)


def _replace_in_attributes(attributes: MutableMapping[str, ir.Attr], swap: Swap) -> None:
    for name, attribute in list(attributes.items()):
        if attribute.type not in TENSOR_ATTRIBUTES or attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if (new_tensor := swap(tensor)) is not tensor:
                attributes[name] = ir.AttrTensor(name, new_tensor, doc_string=attribute.doc_string)
        else:
            tensors = [swap(tensor) for tensor in attribute.as_tensors()]
            attributes[name] = ir.AttrTensors(name, tensors, doc_string=attribute.doc_string)
