"""`modelsurgeon fc2conv`: fully connected layers as convolutions, and back."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon fc2conv model.onnx -o dense.onnx")
@click.argument("model")
@click.option(
    "--reverse", is_flag=True, help="Turn convolutions at a single position into fully connected layers."
)
@click.option(
    "--im2col", is_flag=True, help="With --reverse, turn all other convolutions into matrix products too."
)
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.fc2conv
    """Turn the fully connected layers of MODEL into convolutions.

    A flattened map times a matrix is a convolution whose kernel is the whole map, so the outputs stay the
    same. Height and width of the inputs become dynamic: a larger input gives a map of scores. A layer after a
    mean over the map is moved before it.
    """
    perform(ms.fc2conv, model, name="fc2conv", **arguments)
