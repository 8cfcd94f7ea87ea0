"""Recurrent operators: gates are matrix products, repeated for every time step and direction."""

from __future__ import annotations

from math import prod

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


@counts("AttnLSTM", domain=MICROSOFT_DOMAIN)
def attention_lstm(op: ShapedNode) -> Cost:
    """LSTM whose input at each step is joined by what an attention over a memory returns.

    Weight (directions, gates, input + attention), recurrence (directions, gates, hidden), query layer
    (directions, hidden, depth of attention), memory layer (directions, depth of memory, depth of attention),
    memory (batch, steps of memory, depth of memory), and an optional layer of (directions, depth of memory +
    hidden, attention). The memory layer runs once; a score is a sum over the depth of attention.
    """
    length, batch, _ = op.shape()
    directions, gates, _ = op.shape(1)
    hidden, depth = op.shape(8)[1:]
    steps, memory = op.shape(11)[1:]
    each_step = prod(op.shape(1)[1:]) + prod(op.shape(2)[1:]) + hidden * depth + steps * (depth + memory)
    if op.has(13):
        each_step += prod(op.shape(13)[1:])
    once = steps * memory * depth
    macs = directions * batch * (length * each_step + once)
    units: Number = length * batch * directions * hidden
    biases = 2 * gates // hidden if op.has(3) else 0
    attention = length * batch * directions * steps * (2 * depth + 5)  # sum and tangent, then a softmax
    return Cost(macs=macs, other=(9 + biases + 6 * op.has(7)) * units + attention)


@counts("GRU")
def gru(op: ShapedNode) -> Cost:
    """Three gates; three non-linearities and five products or sums for each unit."""
    return _gated_cost(op, gates=3, steps=8)


@counts("RNN")
def rnn(op: ShapedNode) -> Cost:
    """One gate and its non-linearity."""
    return _gated_cost(op, gates=1, steps=1)
