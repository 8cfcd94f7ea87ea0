"""`modelsurgeon info`: what a model is made of and what it costs."""

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
from modelsurgeon_cli.gates import gate_options, hold
from modelsurgeon_cli.options import (
    batch_option,
    data_option,
    export_options,
    plugin_option,
    provider_option,
    result_options,
    shape_options,
    together,
)
from modelsurgeon_cli.show import check_outputs, check_weights, emit, progress, show

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis


def define(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the definitions and end."""
    if asked:
        emit(DEFINITIONS)
        ctx.exit()


view_options = together(
    click.option("--by", type=click.Choice(["node", *GROUPS]), default="node", help="What a row is."),
    click.option("--sort", type=click.Choice(SORT_KEYS), help="Sort the rows by this number or name."),
    click.option(
        "--top",
        type=click.IntRange(min=1),
        help="Only so many rows, those with the most MACs unless --sort says otherwise.",
    ),
    click.option("--depth", type=click.IntRange(min=1), help="With --by module: a tree of so many levels."),
    *(
        click.option(f"--{name}", metavar=word, multiple=True, help=told)
        for name, word, told in (
            ("only", "GLOB", "Only layers and modules whose name matches. Repeatable."),
            ("skip", "GLOB", "No layers and modules whose name matches. Repeatable."),
            ("op", "OP", "Only nodes of this operator. Repeatable."),
        )
    ),
    click.option("--memory", is_flag=True, help="Show which activations live when, and those of the peak."),
    click.option("--training", is_flag=True, help="Show what it takes to train, also with recomputation."),
    click.option(
        "--definitions",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=define,
        help="Say what each number means, and exit.",
    ),
)
run_options = together(
    data_option,
    click.option("--samples", type=click.IntRange(min=1), help="With --data: at most so many samples."),
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
    provider: str,
    example: str | None,
    trust: bool,
    format: str,
    output: str | None,
    quiet: bool,
    **limits: float | None,
) -> None:
    """Show what MODEL is made of and what it costs.

    Every layer with its MACs, params, bytes and shapes. With --data the model is run, and the ranges of its
    activations are shown; otherwise nothing is.
    MODEL is an .onnx file, or a PyTorch source package.module:factory, which is imported and called:
    that runs its code. Several models are shown side by side, by their totals.
    """
    if depth is not None and by != "module":
        raise click.UsageError("--depth is of a tree of modules: add --by module.")
    if data is None and (samples or batch):
        raise click.UsageError("--samples and --batch say how --data is run: give it, or leave them out.")
    if len(models) > 1 and (weights.file or example):
        raise click.UsageError("--weights FILE and --example are of one model: name one.")
    outputs = {"--output": output}
    inputs = {"MODEL" if len(models) == 1 else f"MODEL {path}": path for path in models}
    check_outputs(outputs, {**inputs, "--weights": weights.file, "--data": data, "--example": example})
    found = {}
    for model in dict.fromkeys(models):
        with progress(f"reading {model}", quiet=quiet) as watch:
            graph = ms.load(model, weights=weights.file, shapes=shapes, example=example, trust=trust)
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
    hold(found, limits, strict=strict)


def arranged(analysis: Analysis, by: str, depth: int | None, sort: str | None, top: int | None) -> Analysis:
    """The rows that were asked for, in the order that was asked for."""
    if depth is not None:
        analysis = analysis.nested(depth)
    elif by != "node":
        analysis = analysis.grouped_by(by)
    if sort is not None or top is not None:
        analysis = analysis.sorted_by(sort or "macs")
    return analysis if top is None else analysis.top(top)
