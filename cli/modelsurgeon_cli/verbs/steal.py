"""`modelsurgeon steal`: layers from one net for another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon_cli.operation import check_options, name_options, show_result
from modelsurgeon_cli.options import (
    data_option,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    size_by_symbol,
)
from modelsurgeon_cli.show import check_outputs, check_weights, progress, write

INITS = ("zero", "mean", "random", "map", "fit")


@click.command(epilog="Example: modelsurgeon steal model.onnx model.onnx -o grown.onnx --grow fc=50")
@click.argument("donor")
@click.argument("recipient")
@click.option("-o", "out", type=click.Path(), metavar="OUT", required=True, help="The model to write.")
@click.option("--map", "given", type=click.Path(), metavar="FILE", help="JSON: recipient's layer -> donor's.")
@click.option("--partial", is_flag=True, help="Where sizes differ, take the block that both have.")
@click.option(
    "--grow",
    multiple=True,
    metavar="NAME=CLASSES",
    callback=size_by_symbol,
    help="Give the recipient's layer NAME so many outputs, the donor's first. Repeatable.",
)
@click.option(
    "--grow-init",
    type=click.Choice(INITS),
    default="zero",
    show_default=True,
    help="New rows: zeros, the mean of the old, random with their mean and deviation, as --labels say, or "
    "fitted to the classes of --data (an .npz with an array label).",
)
@click.option(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help='JSON: {"donor": [names], "recipient": [names]}, or new class -> old class, or several.',
)
@click.option(
    "--freeze-list", type=click.Path(), metavar="FILE", help="Write the names of the stolen tensors as JSON."
)
@name_options
@data_option
@seed_option
@check_options
@shape_options
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
    **asked: Any,  # noqa: ANN401 - named and meant as those of ms.steal
) -> None:
    """Give RECIPIENT the weights of every layer of DONOR that matches.

    Layers match by name, else by their kind and shapes in order, or by --map. Both are .onnx files, or both
    state dicts (.safetensors, .pth). A head with more classes than the donor's keeps the old classes' rows,
    so their answers stay what they were.
    """
    inputs = {"DONOR": donor, "--map": given, "--labels": labels, "--data": asked["data"]}
    check_outputs({"-o": out, "--output": output, "--freeze-list": freeze_list}, inputs)
    check_outputs({"-o": out}, {"RECIPIENT": recipient})
    with progress(f"steal {donor}", quiet=quiet):
        for path in (donor, recipient):
            if path.endswith(".onnx"):
                check_weights({"-o": out, "the data of -o": f"{out}.data"}, weight_files(ms.load(path)))
        done = ms.steal(donor, recipient, given=_json(given), labels=_json(labels), **asked)
        ms.save(done.model, out)
        if freeze_list is not None:
            write(freeze_list, json.dumps({"frozen": list(done.frozen)}, indent=2) + "\n")
    show_result(done, "steal", donor, format=format, output=output)


def _json(path: str | None) -> Mapping[str, Any] | None:
    """A JSON object in a file."""
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ms.BadPlan(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ms.BadPlan(f"{path} holds no JSON object: names -> values are needed")
    return found
