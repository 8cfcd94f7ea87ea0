"""Attributes of a node, with and without those that only repeat the default."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any

import onnx_ir as ir
from onnx import defs, helper

# Defaults that schemas state only in prose: the value of every entry of the list.
ENTRY_DEFAULTS = {"dilations": 1, "strides": 1, "pads": 0}
IMPLIED_ATTRIBUTES = frozenset({"kernel_shape"})  # by the shape of the weight
OPERATORS_WITH_KERNEL = frozenset({"Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv"})


def attribute_values(node: ir.Node) -> Hashable:
    """Names and values of a node's attributes, to compare nodes; tensors and graphs compare by identity."""
    attributes = node.attributes.data.items()  # its own items() looks each one up again
    return tuple(
        [
            (name, tuple(attribute.value) if type(attribute.value) is list else attribute.value)
            for name, attribute in attributes
        ]
    )


def non_default_attributes(node: ir.Node, opsets: Mapping[str, int]) -> Iterator[ir.Attr]:
    """A node's attributes that differ from the default, sorted by name. opsets: versions by domain."""
    defaults = _schema_defaults(node.op_type, opsets.get(node.domain, 1), node.domain)
    for name, attribute in sorted(node.attributes.items()):
        if not _is_default(node, name, attribute, defaults):
            yield attribute


def _is_default(node: ir.Node, name: str, attribute: ir.Attr, defaults: Mapping[str, Any]) -> bool:
    if attribute.is_ref():
        return False
    if name in defaults:
        return bool(attribute.value == defaults[name])
    if name in ENTRY_DEFAULTS and attribute.type == ir.AttributeType.INTS:
        return set(attribute.value) <= {ENTRY_DEFAULTS[name]}
    return name in IMPLIED_ATTRIBUTES and node.op_type in OPERATORS_WITH_KERNEL


@cache
def _schema_defaults(op: str, version: int, domain: str) -> Mapping[str, Any]:
    """Defaults of an operator's attributes in its schema, by name."""
    try:
        schema = defs.get_schema(op, version, domain)
    except defs.SchemaError:
        return {}
    known = {name: helper.get_attribute_value(attr.default_value) for name, attr in schema.attributes.items()
             if attr.default_value.type}  # fmt: skip
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in known.items()}
