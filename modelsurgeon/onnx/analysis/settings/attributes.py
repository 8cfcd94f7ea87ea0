"""Bytes of the numbers that operators hold in attributes, such as the nodes of trees. They are no params."""

from __future__ import annotations

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.io.long_lists import LongList

MIN_ENTRIES = 2  # a shorter list is a setting
ENTRY_BYTES = {ir.AttributeType.FLOATS: 4, ir.AttributeType.INTS: 8}
STANDARD_OPERATORS = frozenset({"TfIdfVectorizer"})  # of the standard domain; others hold settings only


def attribute_bytes(model: ir.Model) -> dict[ir.Node, int]:
    """Bytes in the lists and tensors of attributes, of each node that has any."""
    found: dict[ir.Node, int] = {}
    for node in nodes(model):
        if node.domain in STANDARD_DOMAINS and node.op_type not in STANDARD_OPERATORS:
            continue
        if size := sum(map(_bytes, node.attributes.values())):
            found[node] = size
    return found


def _bytes(attribute: ir.Attr) -> int:
    if attribute.is_ref():
        return 0
    if attribute.type == ir.AttributeType.TENSOR:
        return int(attribute.as_tensor().nbytes)
    value = attribute.value
    if isinstance(value, LongList):
        return value.nbytes
    if not isinstance(value, tuple | list) or len(value) < MIN_ENTRIES:
        return 0
    if attribute.type == ir.AttributeType.STRINGS:
        return sum(len(text.encode()) for text in value)
    return len(value) * ENTRY_BYTES.get(attribute.type, 0)
