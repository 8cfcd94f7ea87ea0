"""NaN and infinite numbers that an edit wrote into a model, where there were none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.traversal import TENSOR_ATTRIBUTES, graphs

NAN, INFINITY = "NaN", "an infinite number"
FLOAT_ATTRIBUTES = (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
COMPLEX_TYPES = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)

Holder = ir.TensorProtocol | ir.Attr


def check_finite(edited: ir.Model, *sources: ir.Model) -> None:
    """Raise UnsupportedLayer for a NaN or an infinite number, in a tensor or attribute, that no source had.

    Only what the edited model doesn't share with a source is read. A number may come from a tensor or an
    attribute that is gone: NaN from NaN and infinity, infinity from infinity.
    """
    old = {id(holder): holder for model in sources for holder, _ in _holders(model)}
    kept: set[int] = set()
    found: list[tuple[str, str, ir.Node | None]] = []
    for holder, place in _holders(edited):
        if id(holder) in old:
            kept.add(id(holder))
        elif kind := _worst_number(holder):
            what = "attribute" if isinstance(holder, ir.Attr) else "tensor"
            found.append((kind, f"{what} {str(holder.name or '')!r}", place))
    if not found:
        return
    gone = {_worst_number(holder) for key, holder in old.items() if key not in kept}
    allowed = {NAN: {NAN, INFINITY}, INFINITY: {INFINITY}}
    for kind, name, node in found:
        if not allowed[kind] & gone:
            layer = "" if node is None else f" of layer {layer_names(edited).get(node, node.name)!r}"
            raise UnsupportedLayer(
                f"{name}{layer} would hold {kind}, which the model didn't hold: "
                "leave the layer out (--skip), or give other samples"
            )


def _holders(model: ir.Model) -> Iterator[tuple[Holder, ir.Node | None]]:
    """Every tensor and every attribute of floats of a model, with a node that reads or holds it."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value, next((use.node for use in value.uses()), None)
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type in FLOAT_ATTRIBUTES:
                    yield attribute, node
                elif attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor(), node
                elif attribute.type in TENSOR_ATTRIBUTES:
                    yield from ((tensor, node) for tensor in attribute.as_tensors())


def _worst_number(holder: Holder) -> str:
    """NAN or INFINITY where floats hold such a number, else ""."""
    if isinstance(holder, ir.Attr):
        return _worst_of(np.asarray(holder.value))
    if not (holder.dtype.is_floating_point() or holder.dtype in COMPLEX_TYPES):
        return ""
    return _worst_of(holder.numpy())


def _worst_of(array: NDArray[Any]) -> str:
    if np.isfinite(array).all():
        return ""
    return NAN if np.isnan(array).any() else INFINITY
