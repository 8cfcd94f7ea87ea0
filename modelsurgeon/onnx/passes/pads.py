"""Pad nodes between an affine step per channel and its layer: what they would have to add instead.

Source: ONNX operator specification, Pad of opset 2, 11, 13, 18 and 19.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext


def carried(subject: PassContext, node: ir.Node, change: Callable[[float], float]) -> Callable[[], None]:
    """A step that changes the constant a Pad adds, as the affine that moves past it changes values.

    Modes that repeat values need nothing. Raises UnsupportedLayer: channels are padded, or the constant isn't
    known, or `change` has no one value for all channels.
    """
    _check_axes(subject, node)
    if _mode(node) != "constant":
        return lambda: None
    old = _value(node)
    new = change(old)
    if new == old:
        return lambda: None
    return lambda: _write(subject, node, new)


def spares_channels(subject: PassContext, node: ir.Node) -> bool:
    """Whether a Pad adds to positions alone, and nothing but zeros or what is there already."""
    try:
        _check_axes(subject, node)
        return _mode(node) != "constant" or _value(node) == 0
    except UnsupportedLayer:
        return False


def _mode(node: ir.Node) -> str:
    return node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"


def _check_axes(subject: PassContext, node: ir.Node) -> None:
    """Pads may stand on the spatial axes alone, from the third on."""
    if "pads" in node.attributes:
        pads = np.asarray(node.attributes["pads"].as_ints())
    elif len(node.inputs) > 1 and (found := constant_array(node.inputs[1])) is not None:
        pads = found
    else:
        raise UnsupportedLayer("a Pad lies between, whose sizes are computed at run time")
    axes = np.arange(pads.size // 2)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given, ndim = constant_array(node.inputs[3]), subject.ndim(node.inputs[0])
        if given is None or ndim is None:
            raise UnsupportedLayer("a Pad lies between, whose axes aren't known")
        axes = np.asarray(given) % ndim
    if pads.reshape(2, -1)[:, axes < 2].any():
        raise UnsupportedLayer("a Pad lies between that adds channels or samples")


def _value(node: ir.Node) -> float:
    if "value" in node.attributes:
        return float(node.attributes["value"].as_float())
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return 0.0
    found = constant_array(node.inputs[2])
    if found is None:
        raise UnsupportedLayer("a Pad lies between, whose constant is computed at run time")
    return float(found.reshape(()))


def _write(subject: PassContext, node: ir.Node, value: float) -> None:
    if len(node.inputs) < 2:  # up to opset 10 all but the data are attributes
        node.attributes.add(ir.AttrFloat32("value", value))
        return
    dtype = subject.inferred(node.outputs[0]).dtype or ir.DataType.FLOAT
    node.resize_inputs(max(3, len(node.inputs)))
    name = f"{subject.names.get(node, 'pad')}.value"
    node.replace_input_with(2, subject.store(name, np.asarray(value, dtype.numpy())))
