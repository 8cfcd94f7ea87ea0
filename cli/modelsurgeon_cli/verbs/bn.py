"""`modelsurgeon bn`: batch norm under surgery."""

from __future__ import annotations

from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon_cli.operation import name_options, operation_options, perform, show_result
from modelsurgeon_cli.options import data_option, provider_option, result_options, shape_options
from modelsurgeon_cli.show import check_outputs, check_weights, progress


@click.group()
def command() -> None:
    """Inspect, fold, freeze, mend or recalibrate batch norm."""


@command.command(epilog="Example: modelsurgeon bn inspect model.onnx --data calibration.npz")
@click.argument("model")
@name_options
@data_option
@shape_options
@provider_option
@result_options
def inspect(
    model: str,
    format: str,
    output: str | None,
    quiet: bool,
    **asked: Any,  # noqa: ANN401 - named and meant as those of ms.bn.inspect
) -> None:
    """Tell what is wrong or odd about every batch norm of MODEL.

    With --data also how far its statistics are from what the samples show.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"MODEL": model, "--data": asked["data"]})
    with progress(f"inspecting {model}", quiet=quiet):
        graph = ms.load(model, shapes=asked["shapes"])
        check_weights(outputs, weight_files(graph))
        found = ms.bn.inspect(graph, **asked)
    show_result(found, "bn inspect", model, format=format, output=output)


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


@command.command(epilog="Example: modelsurgeon bn sanitize model.onnx -o sound.onnx")
@click.argument("model")
@operation_options
def sanitize(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as those of ms.bn.sanitize
    """Repair broken batch norm: NaN, negative variance, channels that never varied, training mode.

    With --data, broken statistics become those that the samples show; otherwise neutral ones.
    """
    perform(ms.bn.sanitize, model, name="bn sanitize", **asked)


@command.command(
    epilog="Example: modelsurgeon bn recalibrate model.onnx -o fresh.onnx --data calibration.npz"
)
@click.argument("model")
@operation_options
def recalibrate(model: str, **asked: Any) -> None:  # noqa: ANN401 - named and meant as ms.bn.recalibrate's
    """Recompute the mean and variance of every batch norm over the samples --data.

    Layer by layer, as later ones depend on earlier ones. A quarter of the samples is held out to compare on.
    """
    perform(ms.bn.recalibrate, model, name="bn recalibrate", **asked)
