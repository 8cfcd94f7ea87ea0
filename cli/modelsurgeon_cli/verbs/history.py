"""`modelsurgeon history`: the verbs that were applied to a model."""

from __future__ import annotations

import click

import modelsurgeon as ms
from modelsurgeon_cli.operation import show_result
from modelsurgeon_cli.options import result_options
from modelsurgeon_cli.show import check_outputs, progress


@click.command(epilog="Example: modelsurgeon history model.onnx")
@click.argument("model")
@result_options
def command(model: str, format: str, output: str | None, quiet: bool) -> None:
    """Show the verbs that were applied to MODEL, oldest first."""
    check_outputs({"--output": output}, {"MODEL": model})
    with progress(f"reading {model}", quiet=quiet):
        found = ms.history(model)
    show_result(found, "history", model, format=format, output=output)
