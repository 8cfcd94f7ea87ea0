"""The group of verbs, and error handling: one line on stderr and an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pkgutil import iter_modules

import click

import modelsurgeon
from modelsurgeon.errors import SurgeryError
from modelsurgeon.report.formatting import escape
from modelsurgeon_cli import verbs

SUCCESS, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130


class VerbGroup(click.Group):
    """The group of all modules of `modelsurgeon_cli.verbs`; the `command` of one is imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of all verbs."""
        return sorted(module.name for module in iter_modules(verbs.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or None where there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{verbs.__name__}.{cmd_name}").command
        command.name = cmd_name
        return command


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 an error or a failed gate, 2 wrong usage, 130 interrupted.",
)
@click.version_option(modelsurgeon.__version__, message="%(prog)s %(version)s")
@click.pass_context
def surgeon(ctx: click.Context) -> None:
    """Inspect neural networks, make them smaller and faster, and check the outputs."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a known error is reported in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings(), _without_logs():
        warnings.showwarning = _print_warning
        try:
            code = surgeon.main(arguments, prog_name="modelsurgeon", standalone_mode=False)
        except click.UsageError as error:
            return _print_error(_usage_message(error), USAGE)
        except click.Abort:
            return INTERRUPTED
        except SurgeryError as error:
            return _print_error(str(error), ERROR)
        except OSError as error:
            return _print_error(_os_error_message(error), ERROR)
    return code if isinstance(code, int) else SUCCESS


@contextmanager
def _without_logs() -> Iterator[None]:
    """Context in which libraries log nothing but what is critical: stderr is for our own messages."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _print_error(message: str, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {escape(message)}", err=True)
    return code


def _usage_message(error: click.UsageError) -> str:
    where = error.ctx.command_path if error.ctx else "modelsurgeon"
    return f"{' '.join(error.format_message().split())} See {where} --help"


def _os_error_message(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"{click.style('warning:', fg='yellow')} {escape(str(message))}", err=True)
