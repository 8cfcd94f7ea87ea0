"""`modelsurgeon prune`: channels that change no answer are removed."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon prune model.onnx -o pruned.onnx")
@click.argument("model")
@operation_options
def command(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.prune
    """Remove the channels of MODEL that no answer depends on.

    Dead ones, which are one number whatever the model is fed; double ones, made in the same way as others;
    and those that nothing takes. Their weights and biases go to what is left, so the answers stay the same up
    to rounding. Told for every layer: its channels and inputs before and after, and why the channels went.
    """
    perform(ms.prune, model, name="prune", **asked)
