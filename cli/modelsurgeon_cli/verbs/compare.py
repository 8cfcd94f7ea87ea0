"""`modelsurgeon compare`: whether two models give the same outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon.comparison import gate
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.options import (
    Real,
    batch_option,
    data_option,
    provider_option,
    result_options,
    seed_option,
    shape_options,
)
from modelsurgeon_cli.show import check_outputs, check_weights, progress, show


@click.command(epilog="Example: modelsurgeon compare model.onnx small.onnx --samples 4 --tolerance 0.05")
@click.argument("a")
@click.argument("b")
@data_option
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Largest number of samples; without --data, the number of noise samples.",
)
@batch_option
@seed_option
@click.option(
    "--tolerance",
    type=Real(min=0),
    help="Largest relative L2 error of an output that counts as the same.",
)
@click.option(
    "--per-layer",
    is_flag=True,
    help="Show the outputs of the layers that both have too; the verdict is on the model's outputs.",
)
@click.option(
    "--by-position",
    is_flag=True,
    help="Pair inputs and outputs of other names by position, where type and rank are equal.",
)
@shape_options
@provider_option
@result_options
def command(
    a: str,
    b: str,
    format: str,
    output: str | None,
    quiet: bool,
    **arguments: Any,  # noqa: ANN401 - the arguments of ms.compare
) -> None:
    """Compare the outputs of models A and B.

    Both run on the same samples. Exits with 1 if they differ by more than the numerical noise of A,
    or than --tolerance, and if there is no verdict: nothing finite was compared, or A is random.
    Without --data the samples are seeded noise, a weaker test than real data.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"A": a, "B": b, "--data": arguments["data"]})
    with progress(f"comparing {a} and {b}", quiet=quiet):
        models = [load(path, shapes=arguments["shapes"]) for path in (a, b)]
        check_weights(outputs, (file for model in models for file in weight_files(model)))
        comparison = ms.compare(*models, **arguments)
    show(comparison, f"compare {Path(a).name} {Path(b).name}", format=format, output=output)
    gate.check(
        comparison,
        "see the table, or give a wider --tolerance",
        subject=f"{b} differs from {a}",
        no_verdict_advice="",
    )
