"""NaN and infinite numbers that an edit wrote into a model, where there were none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.traversal import TENSOR_ATTRIBUTES, graphs

NAN, INFINITY = "NaN", "an infinite number"
COMPLEX_TYPES = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)


def check_finite(edited: ir.Model, *sources: ir.Model) -> None:
    """Raise UnsupportedLayer for a tensor with a NaN or an infinite number that none of the sources had.

    Only tensors that the edited model doesn't share with a source are read. A number may come from a tensor
    that is gone: NaN from NaN and infinity, infinity from infinity.
    """
    old = {id(tensor): tensor for model in sources for tensor, _ in _tensors(model)}
    kept: set[int] = set()
    found: list[tuple[str, str, ir.Node | None]] = []
    for tensor, place in _tensors(edited):
        if id(tensor) in old:
            kept.add(id(tensor))
        elif kind := _worst_number(tensor):
            found.append((kind, str(tensor.name or ""), place))
    if not found:
        return
    gone = {_worst_number(tensor) for key, tensor in old.items() if key not in kept}
    allowed = {NAN: {NAN, INFINITY}, INFINITY: {INFINITY}}
    for kind, name, node in found:
        if not allowed[kind] & gone:
            layer = "" if node is None else f" of layer {layer_names(edited).get(node, node.name)!r}"
            raise UnsupportedLayer(
                f"tensor {name!r}{layer} would hold {kind}, which the model didn't hold: "
                "leave the layer out (--skip), or give other samples"
            )


def _tensors(model: ir.Model) -> Iterator[tuple[ir.TensorProtocol, ir.Node | None]]:
    """Every tensor of a model with a node that reads or holds it."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value, next((use.node for use in value.uses()), None)
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type not in TENSOR_ATTRIBUTES or attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor(), node
                else:
                    yield from ((tensor, node) for tensor in attribute.as_tensors())


def _worst_number(tensor: ir.TensorProtocol) -> str:
    """NAN or INFINITY where a floating-point tensor holds such a number, else ""."""
    if not (tensor.dtype.is_floating_point() or tensor.dtype in COMPLEX_TYPES):
        return ""
    array = tensor.numpy()
    if np.isfinite(array).all():
        return ""
    return NAN if np.isnan(array).any() else INFINITY
