"""The result on stdout or in a file, in every format; nothing else goes to stdout."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from modelsurgeon.files import replacing, same_file
from modelsurgeon.progress import Progress
from modelsurgeon.report import formatting
from modelsurgeon.report.table import Table

WIDTH_OF_FILES = 120


class Showable(Protocol):
    """A result: plain data, and tables for people."""

    def as_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """What `--format json` prints."""

    def tables(self) -> Sequence[Table]:
        """What all other formats print."""


S = TypeVar("S", bound=Showable)


def as_text(result: Showable, _title: str, width: int = WIDTH_OF_FILES) -> str:
    """All tables as plain text."""
    return "\n".join(table.text(width) for table in result.tables())


def as_json(result: Showable, _title: str) -> str:
    """Strict JSON in ASCII: no NaN, no infinity, every control character escaped."""
    return json.dumps(formatting.plain(result.as_dict()), indent=2) + "\n"


def as_csv(result: Showable, _title: str) -> str:
    """The first table, which is the main one: one file, one header."""
    return result.tables()[0].csv()


def as_markdown(result: Showable, title: str) -> str:
    """All tables under a heading."""
    return f"## {title}\n\n" + "\n".join(table.markdown() for table in result.tables())


def as_html(result: Showable, title: str) -> str:
    """One self-contained page."""
    from modelsurgeon.report.html import html_page

    return html_page(title, result.tables())


FORMATS: dict[str, Callable[[Showable, str], str]] = {
    "table": as_text,
    "json": as_json,
    "csv": as_csv,
    "markdown": as_markdown,
    "html": as_html,
}


def show(
    result: S,
    title: str,
    *,
    format: str,
    output: str | None,
    formats: Mapping[str, Callable[[S, str], str]] = FORMATS,
) -> None:
    """The result in its format, to the file `output` or to stdout."""
    if output is not None:
        write(output, formats[format](result, title))
    elif format != "table":
        emit(formats[format](result, title))
    elif sys.stdout.isatty():
        _print(result)
    else:
        emit(as_text(result, title, shutil.get_terminal_size((WIDTH_OF_FILES, 24)).columns))


def emit(text: str) -> None:
    """Text on stdout. A reader who has seen enough and left, such as `head`, is no problem."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(result: Showable) -> None:
    from rich.console import Console

    from modelsurgeon.report.text_layout import stacked

    Console().print(stacked(result.tables()))


def write(path: str, text: str) -> None:
    """A text file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_outputs(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that can't be written, or are an input or each other, before any work is done.

    Both map the words for a path to the path, or to None where it isn't given.
    """
    taken = {what: path for what, path in inputs.items() if path is not None}
    for what, path in outputs.items():
        if path is None:
            continue
        for other, used in taken.items():
            if same_file(path, used):
                raise click.UsageError(f"{what} {path} is the file of {other} too: name another file.")
        taken[what] = path
        with suppress(_OnlyTrying), replacing(path):
            raise _OnlyTrying


def check_weights(outputs: Mapping[str, str | None], files: Iterable[Path]) -> None:
    """Refuse outputs that would replace a file of weights beside an input."""
    if any(path is not None for path in outputs.values()):
        check_outputs(outputs, {f"weights, {file}": str(file) for file in files})


class _OnlyTrying(Exception):
    """Ends the attempt to write, so that nothing is left of it."""


@contextmanager
def progress(message: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A spinner on stderr while the block runs, on terminals only; where quiet, no warnings either.

    Gives what a library call may tell how much is done, for a bar beside the spinner; None off terminals.
    """
    with ExitStack() as stack:
        if quiet:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        shown = sys.stderr.isatty() and not quiet
        yield stack.enter_context(_on_terminal(formatting.escape(message))) if shown else None


@contextmanager
def _on_terminal(message: str) -> Iterator[Progress]:
    from rich import progress as bars
    from rich.console import Console

    told = bars.TextColumn("{task.description}", markup=False)
    columns = (bars.SpinnerColumn(), told, bars.BarColumn(bar_width=20), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(message, total=None)
        under_way = ""

        def watch(what: str, done: int, total: int) -> None:
            nonlocal under_way
            if fresh := what != under_way:  # the time left is of this piece of work, not of those before it
                under_way = what
                bar.reset(task)
            bar.update(task, description=f"{message}: {what}", completed=done, total=total, refresh=fresh)

        yield watch
