"""A rule about nodes that can't run at their sizes."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.onnx.shapes.impossible import impossible, misfits


@rule(
    "cannot-run",
    "error",
    summary="a node can't run at the sizes of its inputs",
    advice="No runtime accepts {layer}: correct its weight, its attributes or the shape before it.",
)
def cannot_run(net: Net) -> Iterator[Hit]:
    """Sizes contradict what an operator requires: channels, features, elements, axes, indices or windows.

    Sizes that the model leaves open don't count: they can be bound to others. What is behind such a node has
    no known shape.
    """
    at_defaults = misfits(net.model)
    for node, reason in impossible(net.model).items():
        if node not in at_defaults and net.row_of[node].runs:
            yield Hit(layer=net.row_of[node].name, message=reason)
