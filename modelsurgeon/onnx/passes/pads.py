"""Pad nodes between a batch norm and a linear layer: the constant they must pad with once it is folded.

Source: ONNX operator specification, Pad of opset 2, 11, 13, 18 and 19.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext


def pad_value_step(
    context: PassContext, node: ir.Node, change: Callable[[float], float]
) -> Callable[[], None]:
    """A step that maps the constant of a Pad by `change`, as the affine map that moves past it maps values.

    Modes that repeat values need no change. Raises UnsupportedLayer where channels are padded, where sizes,
    axes or the constant aren't known, and where `change` has no single value for all channels.
    """
    _check_axes(context, node)
    if _pad_mode(node) != "constant":
        return lambda: None
    old = _pad_value(node)
    new = change(old)
    if new == old:
        return lambda: None
    return lambda: _set_pad_value(context, node, new)


def pads_positions_only(context: PassContext, node: ir.Node) -> bool:
    """Whether a Pad pads spatial axes only, with zeros or repeated values."""
    try:
        _check_axes(context, node)
        return _pad_mode(node) != "constant" or _pad_value(node) == 0
    except UnsupportedLayer:
        return False


def _pad_mode(node: ir.Node) -> str:
    return node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"


def _check_axes(context: PassContext, node: ir.Node) -> None:
    """Raise UnsupportedLayer unless only spatial axes, from the third on, are padded."""
    if "pads" in node.attributes:
        pads = np.asarray(node.attributes["pads"].as_ints())
    elif len(node.inputs) > 1 and (found := constant_array(node.inputs[1])) is not None:
        pads = found
    else:
        raise UnsupportedLayer("a Pad in between has sizes that are computed at run time")
    axes = np.arange(pads.size // 2)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given, ndim = constant_array(node.inputs[3]), context.ndim(node.inputs[0])
        if given is None or ndim is None:
            raise UnsupportedLayer("a Pad in between has axes that aren't known")
        axes = np.asarray(given) % ndim
    if pads.reshape(2, -1)[:, axes < 2].any():
        raise UnsupportedLayer("a Pad in between adds channels or samples")


def _pad_value(node: ir.Node) -> float:
    if "value" in node.attributes:
        return float(node.attributes["value"].as_float())
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return 0.0
    found = constant_array(node.inputs[2])
    if found is None:
        raise UnsupportedLayer("a Pad in between has a constant that is computed at run time")
    return float(found.reshape(()))


def _set_pad_value(context: PassContext, node: ir.Node, value: float) -> None:
    if len(node.inputs) < 2:  # up to opset 10 all parameters are attributes
        node.attributes.add(ir.AttrFloat32("value", value))
        return
    dtype = context.inferred(node.outputs[0]).dtype or ir.DataType.FLOAT
    node.resize_inputs(max(3, len(node.inputs)))
    name = f"{context.names.get(node, 'pad')}.value"
    node.replace_input_with(2, context.store(name, np.asarray(value, dtype.numpy())))
