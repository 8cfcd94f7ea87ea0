"""LSTM, GRU and RNN: their product with the input as a layer; the step from one state to the next stays.

A step computes `W x + R h` for all gates. `W (directions, gates * hidden, input)` asks for nothing of the
step before it, so a chain may take its place: MatMuls from the input to r channels, which both directions
share, then the operator itself with a W of r inputs. R is multiplied inside the operator's loop, where there
is no room for a second factor: it stays whole.

Source: ONNX operator specification, opset 1 to 22; W, R and the optional inputs are as there.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array

RECURRENT = ("LSTM", "GRU", "RNN")
BIAS_INPUT = 3  # the input with the biases of W and R, one behind the other


def read(node: ir.Node, weight: Array) -> Layer:
    """The product with the input, for all gates and directions: a layer without bias."""
    if weight.ndim != 3:
        raise UnsupportedLayer(f"its weight of shape {weight.shape}: (directions, gates, input) is needed")
    if _input(node, BIAS_INPUT) is not None and constant_array(_input(node, BIAS_INPUT)) is None:
        raise UnsupportedLayer("its bias is computed at run time or is a graph input")
    return Layer(weight=weight.reshape(-1, weight.shape[2]))


def weight_as_stored(node: ir.Node, layer: Layer) -> Array:
    """The weight of a chain's last layer as the operator keeps it: `(directions, gates * hidden, r)`."""
    return layer.weight.reshape(_directions(node), -1, layer.in_channels)


def bias_as_stored(node: ir.Node, bias: Array) -> Array:
    """The operator's biases with that of a chain added to those of W: `(directions, 2 * gates * hidden)`."""
    added = bias.reshape(_directions(node), -1)
    whole = np.concatenate([added, np.zeros_like(added)], axis=1)
    old = constant_array(_input(node, BIAS_INPUT))
    return whole if old is None else (old + whole).astype(old.dtype)


def write(node: ir.Node, x: ir.Value, weight: ir.Value, bias: ir.Value | None) -> ir.Node:
    """The same operator over other data: states, lengths, peepholes, attributes and outputs as they were."""
    inputs = [x, weight, *node.inputs[2:]]
    if bias is not None:
        inputs += [None] * (BIAS_INPUT + 1 - len(inputs))
        inputs[BIAS_INPUT] = bias
    return ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=len(node.outputs))


def _directions(node: ir.Node) -> int:
    direction = node.attributes["direction"].as_string() if "direction" in node.attributes else "forward"
    return 2 if direction == "bidirectional" else 1


def _input(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if len(node.inputs) > place else None
