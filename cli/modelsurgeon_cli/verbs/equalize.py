"""`modelsurgeon equalize`: ranges made alike through non-linearities that scale."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon equalize model.onnx -o even.onnx")
@click.argument("model")
@operation_options
def command(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.equalize
    """Make the ranges of MODEL's channels alike, for float16 and 8-bit integers.

    Channels are divided behind one layer and multiplied in the next, through ReLU, PReLU, MaxOut, pooling and
    all else with max(0, kx) = k max(0, x), so the answers stay the same up to rounding. Told for every layer:
    its largest range over its smallest, and its signal to noise in dB with 8-bit weights. Fold batch norm
    first.
    """
    perform(ms.equalize, model, name="equalize", **asked)
