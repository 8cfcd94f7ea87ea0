"""Every graph and every tensor of a model, wherever they sit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence

import onnx_ir as ir

Swap = Callable[[ir.TensorProtocol], ir.TensorProtocol]

TENSORS = frozenset({ir.AttributeType.TENSOR, ir.AttributeType.TENSORS})
CACHED_NODES = (
    "modelsurgeon.nodes"  # model.meta: all nodes of a model in which none is put or removed any more
)
CACHED_BODIES = "modelsurgeon.bodies"  # model.meta: all graphs inside them


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
    """Put `swap(tensor)` in the place of every tensor: of initializers, attributes and attribute defaults."""
    for graph in graphs(model):
        for value in graph.initializers.data.values():
            tensor = value.const_value
            if tensor is not None and (swapped := swap(tensor)) is not tensor:
                value.const_value = swapped
        for node in graph:
            if node.attributes:
                _exchange(node.attributes, swap)
    for function in model.functions.values():
        _exchange(function.attributes, swap)


def _exchange(attributes: MutableMapping[str, ir.Attr], swap: Swap) -> None:
    for name, attribute in list(attributes.items()):
        if attribute.type not in TENSORS or attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if (swapped := swap(tensor)) is not tensor:
                attributes[name] = ir.AttrTensor(name, swapped, doc_string=attribute.doc_string)
        else:
            tensors = [swap(tensor) for tensor in attribute.as_tensors()]
            attributes[name] = ir.AttrTensors(name, tensors, doc_string=attribute.doc_string)
