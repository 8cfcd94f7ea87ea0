"""Recurrent operators: gates are matrix products, repeated for every time step and direction."""

from __future__ import annotations

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, counts


def _gated_cost(op: ShapedNode, *, gates: int, steps: int) -> Cost:
    """Cost of `gates` products (input + hidden) by hidden, and `steps` operations for each hidden unit.

    X is (length, batch, input), or (batch, length, input): the number of positions is the same.
    All sequences count at full length. Biases, one pair for each gate, are part of the recurrent step: they
    count with its other operations.
    """
    length, batch, width = op.shape()
    hidden = op.integer("hidden_size") or op.shape(2)[-1]
    directions = 2 if op.text("direction", "forward") == "bidirectional" else 1
    units: Number = length * batch * directions * hidden
    biases = 2 * gates if op.has(3) else 0
    return Cost(macs=units * gates * (width + hidden), other=(steps + biases) * units)


@counts("LSTM")
def lstm(op: ShapedNode) -> Cost:
    """Four gates; five non-linearities and four products or sums for each unit, six more with peepholes."""
    return _gated_cost(op, gates=4, steps=9 + 6 * op.has(7))


@counts("DynamicQuantizeLSTM", domain=MICROSOFT_DOMAIN)
def dynamic_quantize_lstm(op: ShapedNode) -> Cost:
    """LSTM with int8 weights (direction, input, gates)."""
    return _gated_cost(op, gates=4, steps=9 + 6 * op.has(7))


@counts("GRU")
def gru(op: ShapedNode) -> Cost:
    """Three gates; three non-linearities and five products or sums for each unit."""
    return _gated_cost(op, gates=3, steps=8)


@counts("RNN")
def rnn(op: ShapedNode) -> Cost:
    """One gate and its non-linearity."""
    return _gated_cost(op, gates=1, steps=1)
