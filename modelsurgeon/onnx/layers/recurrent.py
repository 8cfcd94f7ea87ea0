"""The input projection `W x` of LSTM, GRU and RNN as a layer; the recurrent matrix R stays as it is.

A step computes `W x + R h` for all gates. `W x`, with W `(directions, gates * hidden, input)`, doesn't depend
on the previous step, so a chain may replace W: MatMuls from the input to r channels, which both directions
share, then the operator itself with a W of r inputs. R is multiplied inside the operator's loop, which takes
one matrix only: it isn't factorized.

Source: ONNX operator specification, opset 1 to 22, which also defines W, R and the optional inputs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.graph.constants import constant_array, why_unreadable

RECURRENT = ("LSTM", "GRU", "RNN")
BIAS_INPUT = 3  # index of the input with the biases of W and R, concatenated


def read(node: ir.Node, weight: Array) -> Layer:
    """Input projection as a layer without bias: weight `(directions * gates * hidden, input)`.

    Raises UnsupportedLayer for a weight that isn't 3-D and for a bias that isn't constant.
    """
    if weight.ndim != 3:
        raise UnsupportedLayer(
            f"its weight of shape {weight.shape}: (directions, gates * hidden, input) is needed"
        )
    bias = _input(node, BIAS_INPUT)
    if bias is not None and constant_array(bias) is None:
        raise UnsupportedLayer(why_unreadable(bias, "bias"))
    return Layer(weight=weight.reshape(-1, weight.shape[2]))


def weight_as_stored(node: ir.Node, layer: Layer) -> Array:
    """Weight of a chain's last layer in the operator's layout: `(directions, gates * hidden, r)`."""
    return layer.weight.reshape(_directions(node), -1, layer.in_channels)


def bias_as_stored(node: ir.Node, bias: Array) -> Array:
    """The operator's biases, a chain's added to that of W: `(directions, 2 * gates * hidden)`."""
    added = bias.reshape(_directions(node), -1)
    padded = np.concatenate([added, np.zeros_like(added)], axis=1)
    old = constant_array(_input(node, BIAS_INPUT))
    return padded if old is None else (old + padded).astype(old.dtype)


def write(node: ir.Node, x: ir.Value, weight: ir.Value, bias: ir.Value | None) -> ir.Node:
    """Copy of the operator with new data, weight and bias; its other inputs and attributes are kept."""
    inputs = [x, weight, *node.inputs[2:]]
    if bias is not None:
        inputs += [None] * (BIAS_INPUT + 1 - len(inputs))
        inputs[BIAS_INPUT] = bias
    return ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=len(node.outputs))


def _directions(node: ir.Node) -> int:
    direction = node.attributes["direction"].as_string() if "direction" in node.attributes else "forward"
    return 2 if direction == "bidirectional" else 1


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None
