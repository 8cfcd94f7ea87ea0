"""`modelsurgeon equalize`: cross-layer equalization of channel ranges."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon equalize model.onnx -o even.onnx")
@click.argument("model")
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.equalize
    """Equalize the ranges of MODEL's channels, for float16 and 8-bit integers.

    Channels are divided in one layer and multiplied in the next, through ReLU, PReLU, MaxOut, pooling and all
    other functions with f(kx) = k f(x) for k > 0, so the outputs stay the same up to rounding. Shows for
    every layer its largest range over its smallest, and its signal-to-noise ratio in dB with 8-bit weights.
    Fold batch norm first.
    """
    perform(ms.equalize, model, name="equalize", **arguments)
