"""`modelsurgeon info`: what a model is made of and what it costs."""

from __future__ import annotations

import click

import modelsurgeon as ms
from modelsurgeon_cli.options import result_options, shape_options, weights_option
from modelsurgeon_cli.show import check_outputs, progress, show


@click.command(epilog="Example: modelsurgeon info model.onnx --top 10")
@click.argument("model")
@weights_option
@shape_options
@result_options
def command(
    model: str,
    weights: str | None,
    shapes: dict[str, tuple[int, ...]],
    dims: dict[str, int],
    format: str,
    output: str | None,
    quiet: bool,
) -> None:
    """Show what MODEL is made of and what it costs.

    Every layer with its MACs, params, bytes and shapes; nothing is run.
    MODEL is an .onnx file, or a PyTorch source package.module:factory, which is imported and called:
    that runs its code.
    """
    check_outputs({"--output": output}, {"MODEL": model, "--weights": weights})
    with progress(f"reading {model}", quiet=quiet):
        analysis = ms.info(ms.load(model, weights=weights, shapes=shapes), shapes=shapes, dims=dims)
    show(analysis, model, format=format, output=output)
