"""Shared parts of all surgery verbs: options, one library call, and output of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import is_source, weight_files
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.options import (
    Real,
    combined,
    data_option,
    freeze_option,
    inverted,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    source_options,
)
from modelsurgeon_cli.show import Showable, check_outputs, check_weights, progress, show, with_data_files

name_options = combined(
    click.option("--only", multiple=True, metavar="GLOB", help="Only layers whose name matches. Repeatable."),
    click.option("--skip", multiple=True, metavar="GLOB", help="Skip layers whose name matches. Repeatable."),
)

check_options = combined(
    click.option(
        "--tolerance",
        type=Real(min=0),
        help="Exit 1 and write nothing if the relative L2 error at an output is larger.",
    ),
    click.option(
        "--no-compare",
        "compare",
        is_flag=True,
        callback=inverted,
        help="Don't run the models to compare them.",
    ),
)

operation_options = combined(
    click.option(
        "-o", "out", type=click.Path(), metavar="OUT", required=True, help="The model to write; - for stdout."
    ),
    name_options,
    data_option,
    seed_option,
    check_options,
    shape_options,
    freeze_option,
    source_options,
    provider_option,
    result_options,
)


def perform(
    verb: Callable[..., Any],
    model: str,
    *others: str,
    name: str,
    out: str,
    weights: str | None,
    example: str | None,
    trust: bool,
    format: str,
    output: str | None,
    quiet: bool,
    **arguments: Any,  # noqa: ANN401 - the arguments of the library call
) -> None:
    """Call `verb(model, *others, **arguments)`, write its model to `out` and show the result.

    others: paths of further models, which no output may overwrite either. name: of the verb.
    """
    outputs = {"-o": out, "--output": output}
    inputs = {"MODEL": model, "--data": arguments["data"], "--weights": weights, "--example": example}
    check_outputs(outputs, inputs | dict(zip(others, others, strict=True)))
    with progress(f"{name} {model}", quiet=quiet):
        graph = load(model, weights=weights, shapes=arguments["shapes"], example=example, trust=trust)
        for loaded in (graph, *map(load, others)):
            check_weights(with_data_files(outputs, {"-o": out}), weight_files(loaded))
        operation = verb(graph if is_source(model) else model, *others, **arguments)
        ms.save(operation.model, out)
    show_result(operation, name, model, format=format, output=output, others=[out])


def show_result(
    result: Showable,
    name: str,
    model: str,
    *,
    format: str,
    output: str | None,
    others: Iterable[str | None] = (),
) -> None:
    """Show the result under the name of the verb and of the file. others: as for `show`."""
    show(result, f"{name} {Path(model).name}", format=format, output=output, others=others)
