"""`modelsurgeon pool2conv`: pooling as strided convolution."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.command(epilog="Example: modelsurgeon pool2conv model.onnx -o strided.onnx")
@click.argument("model")
@click.option("--approximate", is_flag=True, help="Fit a convolution to every max pooling, too, on --data.")
@operation_options
def command(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.pool2conv
    """Turn the pooling of MODEL into strided convolutions.

    Average pooling becomes a convolution of every channel by itself, and what keeps every s-th position of a
    convolution goes into its stride: both exactly. A maximum is approximated at best, and only on request;
    every edit says which.
    """
    perform(ms.pool2conv, model, name="pool2conv", **asked)
