"""`modelsurgeon extract`: keep the part of a model that leads to given tensors."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform
from modelsurgeon_cli.options import names


@click.command(epilog="Example: modelsurgeon extract model.onnx -o trunk.onnx --outputs r2")
@click.argument("model")
@click.option(
    "--outputs",
    required=True,
    callback=names,
    metavar="A,B",
    help="Outputs of the new model, by tensor name.",
)
@click.option(
    "--inputs", callback=names, metavar="A,B", help="Inputs of the new model; those of MODEL if not given."
)
@operation_options
def command(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.extract
    """Extract the part of MODEL that computes the tensors of --outputs.

    Other branches, such as auxiliary classifiers and losses, are removed, and so is dropout.
    """
    perform(ms.extract, model, name="extract", **arguments)
