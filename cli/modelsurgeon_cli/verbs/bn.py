"""`modelsurgeon bn`: inspect and edit batch norm."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.operation import name_options, operation_options, perform, show_result
from modelsurgeon_cli.options import (
    data_option,
    freeze_option,
    provider_option,
    result_options,
    shape_options,
)
from modelsurgeon_cli.show import check_outputs, check_weights, progress


@click.group()
def command() -> None:
    """Inspect, fold, freeze, repair or recalibrate batch norm."""


@command.command(epilog="Example: modelsurgeon bn inspect model.onnx --data calibration.npz")
@click.argument("model")
@name_options
@data_option
@shape_options
@freeze_option
@provider_option
@result_options
def inspect(
    model: str,
    format: str,
    output: str | None,
    quiet: bool,
    **arguments: Any,  # noqa: ANN401 - the arguments of ms.bn.inspect
) -> None:
    """Report what is wrong or unusual in every batch norm of MODEL.

    With --data, also report how far its statistics are from those of the samples.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"MODEL": model, "--data": arguments["data"]})
    with progress(f"inspecting {model}", quiet=quiet):
        graph = load(model, shapes=arguments["shapes"])
        check_weights(outputs, weight_files(graph))
        found = ms.bn.inspect(graph, **arguments)
    show_result(found, "bn inspect", model, format=format, output=output)


@command.command(epilog="Example: modelsurgeon bn fold model.onnx -o folded.onnx")
@click.argument("model")
@operation_options
def fold(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.bn.fold
    """Absorb batch norm into the layer before it, or else into the one after it.

    The outputs stay the same up to rounding.
    A batch norm that can't be folded is listed with the reason.
    """
    perform(ms.bn.fold, model, name="bn fold", **arguments)


@command.command(epilog="Example: modelsurgeon bn freeze model.onnx -o frozen.onnx")
@click.argument("model")
@click.option(
    "--form",
    type=click.Choice(["mul-add", "batchnorm"]),
    default="mul-add",
    show_default=True,
    help="A multiplication and an addition, or the operator with mean 0 and variance 1.",
)
@click.option("--training", is_flag=True, help="Freeze those in training mode too; this changes the outputs.")
@operation_options
def freeze(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.bn.freeze
    """Turn batch norm into one gain and one offset per channel, which training can't change."""
    perform(ms.bn.freeze, model, name="bn freeze", **arguments)


@command.command(epilog="Example: modelsurgeon bn sanitize model.onnx -o sound.onnx")
@click.argument("model")
@operation_options
def sanitize(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.bn.sanitize
    """Repair broken batch norm: NaN, negative variance, channels that never varied, training mode.

    With --data, broken statistics are replaced by those of the samples; otherwise by neutral ones.
    """
    perform(ms.bn.sanitize, model, name="bn sanitize", **arguments)


@command.command(
    epilog="Example: modelsurgeon bn recalibrate model.onnx -o fresh.onnx --data calibration.npz"
)
@click.argument("model")
@operation_options
def recalibrate(model: str, **arguments: Any) -> None:  # noqa: ANN401 - the arguments of ms.bn.recalibrate
    """Recompute the mean and variance of every batch norm on the samples of --data.

    Goes layer by layer, as later ones depend on earlier ones. A quarter of the samples is held out for the
    comparison.
    """
    perform(ms.bn.recalibrate, model, name="bn recalibrate", **arguments)
