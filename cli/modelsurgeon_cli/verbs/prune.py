"""`modelsurgeon prune`: remove channels that don't affect the outputs."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon prune model.onnx -o pruned.onnx")
@click.argument("model")
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.prune
    """Remove the channels of MODEL that don't affect its outputs.

    These are dead channels, constant for any input; duplicates, computed like another channel; and unused
    ones. The other weights and biases absorb them, so the outputs stay the same up to rounding. Shows for
    every layer its channels and inputs before and after, and why channels were removed.
    """
    perform(ms.prune, model, name="prune", **arguments)
