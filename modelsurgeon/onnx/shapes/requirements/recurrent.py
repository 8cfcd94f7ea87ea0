"""Recurrent layers: weights (directions, gates * hidden, in), states (directions, batch, hidden)."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    axes_count,
    equal,
    product,
    requires,
)

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@requires("RNN", "GRU", "LSTM")
def recurrent(op: SizedNode) -> Iterator[Requirement]:
    """Sizes of weights, biases, lengths, states and peepholes."""
    data = op.sizes()
    if data is None:
        return
    yield axes_count(data, 3, "its input")
    if len(data) != 3:
        return
    gates, hidden = GATES[op.node.op_type], op.integer("hidden_size") or _hidden(op)
    directions = 2 if op.text("direction", "forward") == "bidirectional" else 1
    batch = data[0] if op.integer("layout") else data[1]
    if hidden is None:
        return
    rows = product((gates, hidden))
    yield from _sized(op, 1, "its weight W", (directions, rows, data[2]))
    yield from _sized(op, 2, "its weight R", (directions, rows, hidden))
    yield from _sized(op, 3, "its bias", (directions, product((2, rows))))
    yield from _sized(op, 4, "its sequence lengths", (batch,))
    state = (batch, directions, hidden) if op.integer("layout") else (directions, batch, hidden)
    yield from _sized(op, 5, "its initial state", state)
    if op.node.op_type == "LSTM":
        yield from _sized(op, 6, "its initial cell", state)
        yield from _sized(op, 7, "its peepholes", (directions, product((3, hidden))))


@requires("DynamicQuantizeLSTM", domain=MICROSOFT_DOMAIN)
def quantized_lstm(op: SizedNode) -> Iterator[Requirement]:
    """LSTM with weights (directions, in, 4 * hidden)."""
    data, hidden = op.sizes(), op.integer("hidden_size")
    if data is None or len(data) != 3 or not hidden:
        return
    directions = 2 if op.text("direction", "forward") == "bidirectional" else 1
    yield from _sized(op, 1, "its weight W", (directions, data[2], 4 * hidden))
    yield from _sized(op, 2, "its weight R", (directions, hidden, 4 * hidden))
    yield from _sized(op, 3, "its bias", (directions, 8 * hidden))


def _hidden(op: SizedNode) -> Size | None:
    weight = op.sizes(2)
    return weight[2] if weight is not None and len(weight) == 3 else None


def _sized(op: SizedNode, index: int, name: str, wanted: tuple[Size, ...]) -> Iterator[Requirement]:
    sizes = op.sizes(index)
    if sizes is None:
        return
    yield axes_count(sizes, len(wanted), name)
    text = f"{name} is {' x '.join(map(str, sizes))}, not {' x '.join(map(str, wanted))}"
    for left, right in zip(sizes, wanted, strict=False):
        yield equal(left, right, text)
