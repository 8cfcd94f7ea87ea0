"""Attributes of a node that say something: those that aren't what they would be if they weren't there."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any

import onnx_ir as ir
from onnx import defs, helper

# Defaults that schemas tell in prose: the number that every entry then is.
ATTRIBUTE_READERS = {"dilations": 1, "strides": 1, "pads": 0}
IMPLIED = frozenset({"kernel_shape"})  # by the weight, where there is one
WEIGHTED = frozenset({"Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv"})


def values_of(node: ir.Node) -> Hashable:
    """The attributes of a node: equal for nodes that have the same, tensors and graphs by identity."""
    attributes = node.attributes.data.items()  # its own items() looks each one up again
    return tuple(
        [(name, tuple(one.value) if type(one.value) is list else one.value) for name, one in attributes]
    )


def stated(node: ir.Node, opsets: Mapping[str, int]) -> Iterator[ir.Attr]:
    """The attributes of a node, by name, without defaults. opsets: versions by domain."""
    usual = _defaults(node.op_type, opsets.get(node.domain, 1), node.domain)
    for name, attribute in sorted(node.attributes.items()):
        if not _is_usual(node, name, attribute, usual):
            yield attribute


def _is_usual(node: ir.Node, name: str, attribute: ir.Attr, usual: Mapping[str, Any]) -> bool:
    if attribute.is_ref():
        return False
    if name in usual:
        return bool(attribute.value == usual[name])
    if name in ATTRIBUTE_READERS and attribute.type == ir.AttributeType.INTS:
        return set(attribute.value) <= {ATTRIBUTE_READERS[name]}
    return name in IMPLIED and node.op_type in WEIGHTED


@cache
def _defaults(op: str, version: int, domain: str) -> Mapping[str, Any]:
    """Numbers and texts that a schema gives attributes which are left out."""
    try:
        schema = defs.get_schema(op, version, domain)
    except defs.SchemaError:
        return {}
    known = {name: helper.get_attribute_value(one.default_value) for name, one in schema.attributes.items()
             if one.default_value.type}  # fmt: skip
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in known.items()}
