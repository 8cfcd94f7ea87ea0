"""`modelsurgeon info`: layers of a model and their cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon.inspection.side_by_side import SideBySide
from modelsurgeon.inspection.views import GROUPS, SORT_KEYS
from modelsurgeon_cli import flag_or_file
from modelsurgeon_cli.definitions import DEFINITIONS
from modelsurgeon_cli.flag_or_file import WeightsRequest
from modelsurgeon_cli.gates import check_gates, gate_options
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.options import (
    batch_option,
    combined,
    data_option,
    export_options,
    plugin_option,
    provider_option,
    result_options,
    shape_options,
)
from modelsurgeon_cli.show import check_outputs, check_weights, emit, progress, show

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis


def print_definitions(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    """Print the definitions and exit."""
    if given:
        emit(DEFINITIONS)
        ctx.exit()


view_options = combined(
    click.option("--by", type=click.Choice(["node", *GROUPS]), default="node", help="Unit of a row."),
    click.option("--sort", type=click.Choice(SORT_KEYS), help="Sort the rows by this column."),
    click.option(
        "--top",
        type=click.IntRange(min=1),
        help="Show only so many rows: those with the most MACs, or the first by --sort.",
    ),
    click.option(
        "--depth", type=click.IntRange(min=1), help="With --by module: show a tree of so many levels."
    ),
    *(
        click.option(f"--{name}", metavar=metavar, multiple=True, help=text)
        for name, metavar, text in (
            ("only", "GLOB", "Only layers and modules whose name matches. Repeatable."),
            ("skip", "GLOB", "Skip layers and modules whose name matches. Repeatable."),
            ("op", "OP", "Only nodes of this operator. Repeatable."),
        )
    ),
    click.option(
        "--memory",
        is_flag=True,
        help="Show live bytes of activations over time, and the tensors of the peak.",
    ),
    click.option("--training", is_flag=True, help="Show the memory of training, also with recomputation."),
    click.option(
        "--definitions",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_definitions,
        help="Print the definition of each number and exit.",
    ),
)
run_options = combined(
    data_option,
    click.option("--samples", type=click.IntRange(min=1), help="With --data: largest number of samples."),
    batch_option,
    provider_option,
)


@click.command(
    cls=flag_or_file.Command, epilog="Example: modelsurgeon info model.onnx --sort macs --top 10 --weights"
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@view_options
@flag_or_file.weights_option()
@run_options
@gate_options
@shape_options
@plugin_option
@export_options
@result_options
def command(
    models: tuple[str, ...],
    by: str,
    sort: str | None,
    top: int | None,
    depth: int | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    op: tuple[str, ...],
    memory: bool,
    training: bool,
    strict: bool,
    shapes: dict[str, tuple[int, ...]],
    dims: dict[str, int],
    weights: WeightsRequest,
    data: str | None,
    samples: int | None,
    batch: int | None,
    skip_bad: bool,
    provider: str,
    example: str | None,
    trust: bool,
    format: str,
    output: str | None,
    quiet: bool,
    **limits: float | None,
) -> None:
    """Show the layers of MODEL and their cost.

    Lists every layer with its MACs, params, bytes and shapes. With --data the model is run, and the ranges of
    its activations are shown; otherwise it is not run.
    MODEL is an .onnx file, or a PyTorch source package.module:factory, which is imported and called;
    this runs its code. For several models, their totals are shown side by side.
    """
    if depth is not None and by != "module":
        raise click.UsageError("--depth needs a tree of modules: add --by module.")
    if data is None and (samples or batch):
        raise click.UsageError("--samples and --batch need --data: give it, or leave them out.")
    if len(models) > 1 and (weights.file or example):
        raise click.UsageError("--weights FILE and --example work for one model only: name one.")
    outputs = {"--output": output}
    inputs = {"MODEL" if len(models) == 1 else f"MODEL {path}": path for path in models}
    check_outputs(outputs, {**inputs, "--weights": weights.file, "--data": data, "--example": example})
    found = {}
    for model in dict.fromkeys(models):
        with progress(f"reading {model}", quiet=quiet) as watch:
            graph = load(model, weights=weights.file, shapes=shapes, example=example, trust=trust)
            check_weights(outputs, weight_files(graph))
            found[model] = ms.info(
                graph,
                shapes=shapes,
                dims=dims,
                memory=memory or format == "json",
                training=training,
                weights=weights.inspect,
                data=data,
                samples=samples,
                batch=batch,
                skip_bad=skip_bad,
                provider=provider,
                spend=True,
                watch=watch,
            )
    shown = [
        arranged(one.filtered(only=only, skip=skip, ops=op), by, depth, sort, top) for one in found.values()
    ]
    title = " ".join(["info", *(Path(model).name for model in found)])
    result = shown[0] if len(models) == 1 else SideBySide(analyses=shown)
    show(result, title, format=format, output=output)
    check_gates(found, limits, strict=strict)


def arranged(analysis: Analysis, by: str, depth: int | None, sort: str | None, top: int | None) -> Analysis:
    """The analysis with the requested grouping, order and number of rows."""
    if depth is not None:
        analysis = analysis.nested(depth)
    elif by != "node":
        analysis = analysis.grouped_by(by)
    if sort is not None or top is not None:
        analysis = analysis.sorted_by(sort or "macs")
    return analysis if top is None else analysis.top(top)
