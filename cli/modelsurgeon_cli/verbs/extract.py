"""`modelsurgeon extract`: keep the outputs that are asked for."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform
from modelsurgeon_cli.options import names


@click.command(epilog="Example: modelsurgeon extract model.onnx -o trunk.onnx --outputs r2")
@click.argument("model")
@click.option(
    "--outputs", required=True, callback=names, metavar="A,B", help="Tensors that the new model gives."
)
@click.option(
    "--inputs", callback=names, metavar="A,B", help="Tensors that it takes; as before where none are named."
)
@operation_options
def command(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.extract
    """Cut out of MODEL what leads to the tensors --outputs.

    Branches that end elsewhere go, such as auxiliary classifiers and losses, and so does dropout.
    """
    perform(ms.extract, model, name="extract", **asked)
