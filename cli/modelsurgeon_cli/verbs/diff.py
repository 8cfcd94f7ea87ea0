"""`modelsurgeon diff`: differences between two models, layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.options import inverted, result_options, shape_options
from modelsurgeon_cli.show import check_outputs, check_weights, progress, show


@click.command(epilog="Example: modelsurgeon diff model.onnx small.onnx --no-weights")
@click.argument("a")
@click.argument("b")
@click.option("--all/--only-changes", "everything", default=False, help="Show unchanged layers too.")
@click.option(
    "--no-weights",
    "weights",
    is_flag=True,
    callback=inverted,
    help="Don't read weights; compare only their types and shapes.",
)
@click.option("--exit-code", is_flag=True, help="Exit 1 if the models differ, 0 if they don't.")
@shape_options
@result_options
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str,
    everything: bool,
    weights: bool,
    exit_code: bool,
    shapes: dict[str, tuple[int, ...]],
    dims: dict[str, int],
    format: str,
    output: str | None,
    quiet: bool,
) -> None:
    """Show the differences between models A and B, layer by layer.

    Layers are matched by name, then by kind and position; a chain of factors is shown as one change of the
    layer that it replaces. Attributes, weights and the source of every input and output are compared; names
    of layers and the order of operands that may change places are no difference. The models are not run.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"A": a, "B": b})
    with progress(f"reading {a} and {b}", quiet=quiet):
        models = [load(path, shapes=shapes) for path in (a, b)]
        check_weights(outputs, (file for model in models for file in weight_files(model)))
        found = ms.diff(*models, shapes=shapes, dims=dims, weights=weights)
    shown = found.all() if everything else found
    show(shown, f"diff {Path(a).name} {Path(b).name}", format=format, output=output)
    if exit_code and not found.identical:
        ctx.exit(1)
