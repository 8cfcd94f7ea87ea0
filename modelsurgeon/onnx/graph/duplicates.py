"""Nodes that compute what an earlier node of their graph has computed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, STANDARD_DOMAINS
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.dataflow import is_random, subgraphs

KNOWN_DOMAINS = (*STANDARD_DOMAINS, MICROSOFT_DOMAIN, "ai.onnx.ml")  # other operators may have a state
# Two layers with equal weights stay two: one tensor for both could no longer be edited for one of them.
CONSTANTS = ("Constant", "ConstantOfShape")
MAX_COMPARED_ELEMENTS = 64  # larger constants are compared by identity; their values aren't read


def duplicates(graph: ir.Graph, opsets: Mapping[str, int]) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Nodes that repeat an earlier one, each with the first such node.

    Source: value numbering (Cocke and Schwartz, 1970).
    """
    number: dict[ir.Value, Hashable] = {}
    seen: dict[Hashable, ir.Node] = {}
    for node in graph:
        key = _node_key(node, number, opsets)
        first = node if key is None else seen.setdefault(key, node)
        for value, first_value in zip(node.outputs, first.outputs, strict=True):
            number[value] = number.get(first_value, id(first_value))
        if first is not node:
            yield node, first


def _node_key(node: ir.Node, number: dict[ir.Value, Hashable], opsets: Mapping[str, int]) -> Hashable | None:
    """A key that is equal for nodes that compute the same; None for nodes that never count as equal."""
    if (
        node.op_type in CONSTANTS
        or node.domain not in KNOWN_DOMAINS
        or any(subgraphs(node))
        or is_random(node, opsets.get("", 1))
    ):
        return None
    from modelsurgeon.onnx.graph.attributes import non_default_attributes  # imports onnx's schemas

    inputs = tuple(
        None if value is None else number.get(value) or _constant_key(value) for value in node.inputs
    )
    attributes = frozenset((attr.name, _attribute_key(attr)) for attr in non_default_attributes(node, opsets))
    return node.op_identifier(), inputs, attributes, len(node.outputs)


def _attribute_key(attr: ir.Attr) -> Hashable:
    if attr.is_ref():
        return attr.ref_attr_name
    if attr.type == ir.AttributeType.TENSOR:
        return _tensor_key(attr.as_tensor())
    value = attr.value
    return tuple(value) if isinstance(value, list | tuple) else repr(value)


def _constant_key(value: ir.Value) -> Hashable:
    """A key by content for a short constant, by identity for any other value."""
    tensor = constant_tensor(value)
    return id(value) if tensor is None or value.is_graph_input() else _tensor_key(tensor)


def _tensor_key(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.size > MAX_COMPARED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return id(tensor)
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()
