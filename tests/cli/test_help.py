"""Help: every verb and option has a text, the examples run, and docs/cli.md is up to date."""

import shlex
from pathlib import Path

import click
import pytest

from modelsurgeon_cli.reference import contexts, reference
from tests.cli.conftest import Command

ROOT = Path(__file__).parents[2]
ALL = list(contexts())
VERBS = [ctx for ctx in ALL if not isinstance(ctx.command, click.Group)]
NAMES = [ctx.command_path.removeprefix("modelsurgeon ") for ctx in VERBS]


def test_every_verb_of_the_contract_exists() -> None:
    contract = "check clean compare compress equalize extract fc2conv history info pool2conv prune steal"
    norms = {f"bn {each}" for each in ("fold", "freeze", "inspect", "recalibrate", "sanitize")}
    assert norms | set(contract.split()) <= set(NAMES)


def test_the_reference_is_up_to_date() -> None:
    made = reference()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made, "run make docs"
    assert all(f"## {ctx.command_path}\n" in made for ctx in ALL)


@pytest.mark.parametrize("ctx", VERBS, ids=NAMES)
def test_every_option_has_help(ctx: click.Context) -> None:
    silent = [
        param.name for param in ctx.command.params if isinstance(param, click.Option) and not param.help
    ]
    assert not silent
    assert ctx.command.help


@pytest.mark.parametrize("ctx", VERBS, ids=NAMES)
def test_every_verb_ends_with_an_example_that_works(run: Command, here: Path, ctx: click.Context) -> None:
    help_text = " ".join(run(*str(ctx.command_path).split()[1:], "--help").out.split())
    example = help_text.rpartition("Example: ")[2]
    assert example.startswith(f"{ctx.command_path} ")
    if "small.onnx" in example and "-o small.onnx" not in example:
        (here / "small.onnx").write_bytes((here / "model.onnx").read_bytes())
    done = run(*shlex.split(example)[1:])
    assert (done.code, done.err) == (0, "")
    assert done.out
