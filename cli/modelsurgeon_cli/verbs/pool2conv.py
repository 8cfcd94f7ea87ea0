"""`modelsurgeon pool2conv`: pooling as strided convolution."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon pool2conv model.onnx -o strided.onnx")
@click.argument("model")
@click.option("--approximate", is_flag=True, help="Fit a convolution to every max pooling too, on --data.")
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.pool2conv
    """Turn the pooling of MODEL into strided convolutions.

    Average pooling becomes a depthwise convolution, and subsampling by s after a convolution becomes part of
    its stride; both are exact. A max pooling can only be approximated, which is done only on request; every
    edit says which of these it is.
    """
    perform(ms.pool2conv, model, name="pool2conv", **arguments)
