"""`modelsurgeon pipeline`: several verbs in order, with gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon.api.pipeline import read
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.operation import show_result
from modelsurgeon_cli.options import result_options
from modelsurgeon_cli.show import check_outputs, check_weights, progress, warn, with_data_files


@click.command(epilog="Example: modelsurgeon pipeline steps.toml -o small.onnx")
@click.argument("file", metavar="FILE.toml")
@click.option("--model", metavar="MODEL", help="The model to start from, instead of that in the file.")
@click.option(
    "-o",
    "out",
    type=click.Path(),
    metavar="OUT",
    help="The model to write, instead of that in the file; - for stdout.",
)
@result_options
def command(
    file: str, model: str | None, out: str | None, format: str, output: str | None, quiet: bool
) -> None:
    """Run the verbs listed in FILE.toml, each on the result of the one before it.

    The file has a model, an out, and for every operation a [[step]] with a verb and its arguments.
    A step may have a tolerance and gates such as max_macs; nothing is written unless all of them pass.
    """
    recipe = read(file)
    recipe = replace(recipe, model=Path(model) if model else recipe.model)
    target = out or (str(recipe.out) if recipe.out else None)
    if target is None:
        raise click.UsageError("-o OUT is missing, the model to write: give it, or out = ... in the file.")
    outputs = {"-o": target, "--output": output}
    check_outputs(outputs, {"FILE.toml": file, "the model": str(recipe.model)})
    with progress(f"running {file}", quiet=quiet):
        graph = load(str(recipe.model), shapes=recipe.shared.get("shapes"))
        check_weights(with_data_files(outputs, {"-o": target}), weight_files(graph))
        run = ms.pipeline(recipe)
        ms.save(run.model, target)
    for report in run.steps if run.comparison is None else ():
        if report.step.verb == "compress":
            warn(report.result.comparison, quiet=quiet)
    show_result(run, "pipeline", file, format=format, output=output, others=[target])
