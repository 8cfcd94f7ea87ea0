"""`modelsurgeon clean`: remove nodes that change nothing."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon clean model.onnx -o cleaned.onnx")
@click.argument("model")
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.clean
    """Remove the nodes of MODEL that change nothing.

    These are no-ops, such as an Identity, a Cast to the same type or a Reshape to the same shape; nodes that
    undo others, such as Transposes there and back, also around elementwise nodes; nodes that repeat another
    one; and those that no output depends on. All outputs keep their names and their numbers, to the last bit.
    """
    perform(ms.clean, model, name="clean", **arguments)
