"""`modelsurgeon bn`: batch norm under surgery."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import operation_options, perform


@click.group()
def command() -> None:
    """Inspect, fold, freeze, mend or recalibrate batch norm."""


@command.command(epilog="Example: modelsurgeon bn fold model.onnx -o folded.onnx")
@click.argument("model")
@operation_options
def fold(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.bn.fold
    """Absorb batch norm into the layer before it, or else into the one behind it.

    The answers hold to rounding.
    What stands between the two, or why one can't be folded, is told for every batch norm.
    """
    perform(ms.bn.fold, model, name="bn fold", **asked)


@command.command(epilog="Example: modelsurgeon bn freeze model.onnx -o frozen.onnx")
@click.argument("model")
@click.option(
    "--form",
    type=click.Choice(["mul-add", "batchnorm"]),
    default="mul-add",
    show_default=True,
    help="A multiplication and an addition, or the operator with mean 0 and variance 1.",
)
@click.option("--training", is_flag=True, help="Freeze those in training mode, too: changes the answers.")
@operation_options
def freeze(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.bn.freeze
    """Turn batch norm into one gain and one offset per channel, which no training moves any more."""
    perform(ms.bn.freeze, model, name="bn freeze", **asked)
