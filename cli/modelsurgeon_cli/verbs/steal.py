"""`modelsurgeon steal`: copy weights of layers from one model to another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.operation import check_options, name_options, show_result
from modelsurgeon_cli.options import (
    data_option,
    freeze_option,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    size_by_symbol,
)
from modelsurgeon_cli.show import check_outputs, check_weights, progress, with_data_files, write

INITS = ("zero", "mean", "random", "map", "fit")


@click.command(epilog="Example: modelsurgeon steal model.onnx model.onnx -o grown.onnx --grow fc=50")
@click.argument("donor")
@click.argument("recipient")
@click.option(
    "-o", "out", type=click.Path(), metavar="OUT", required=True, help="The model to write; - for stdout."
)
@click.option(
    "--map", "given", type=click.Path(), metavar="FILE", help="JSON: recipient's layer -> donor's layer."
)
@click.option("--partial", is_flag=True, help="Where sizes differ, copy the block that both have.")
@click.option(
    "--grow",
    multiple=True,
    metavar="NAME=CLASSES",
    callback=size_by_symbol,
    help="Grow the recipient's layer NAME to so many outputs; the donor's come first. Repeatable.",
)
@click.option(
    "--grow-init",
    type=click.Choice(INITS),
    default="zero",
    show_default=True,
    help="New rows: zeros, the mean of the old rows, random with their mean and deviation, mapped by "
    "--labels, or fitted to the classes of --data (an .npz with an array label).",
)
@click.option(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help='JSON: {"donor": [names], "recipient": [names]}, or new class -> old class or list of them.',
)
@click.option(
    "--freeze-list", type=click.Path(), metavar="FILE", help="Write the names of the copied tensors as JSON."
)
@name_options
@data_option
@seed_option
@check_options
@shape_options
@freeze_option
@provider_option
@result_options
def command(
    donor: str,
    recipient: str,
    out: str,
    given: str | None,
    labels: str | None,
    freeze_list: str | None,
    format: str,
    output: str | None,
    quiet: bool,
    **arguments: Any,  # noqa: ANN401 - the arguments of ms.steal
) -> None:
    """Copy the weights of every matching layer of DONOR to RECIPIENT.

    Layers match by name, else by kind and shapes in order, or by --map. Both are .onnx files, or both are
    state dicts (.safetensors, .pth). A head with more classes than the donor's keeps the rows of the old
    classes, so their outputs stay the same.
    """
    inputs = {"DONOR": donor, "--map": given, "--labels": labels, "--data": arguments["data"]}
    check_outputs({"-o": out, "--output": output, "--freeze-list": freeze_list}, inputs)
    check_outputs({"-o": out}, {"RECIPIENT": recipient})
    with progress(f"steal {donor}", quiet=quiet):
        for path in (donor, recipient):
            if path.endswith(".onnx"):
                check_weights(with_data_files({"-o": out}, {"-o": out}), weight_files(load(path)))
        done = ms.steal(donor, recipient, given=_json(given), labels=_json(labels), **arguments)
        ms.save(done.model, out)
        if freeze_list is not None:
            write(freeze_list, json.dumps({"frozen": list(done.frozen)}, indent=2) + "\n")
    show_result(done, "steal", donor, format=format, output=output, others=[out, freeze_list])


def _json(path: str | None) -> Mapping[str, Any] | None:
    """The JSON object in a file; None without a path. Raises BadPlan for anything else."""
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ms.BadPlan(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ms.BadPlan(f"{path} doesn't hold a JSON object: one of names -> values is needed")
    return found
