"""Output of results to stdout or a file, in every format; nothing else goes to stdout."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

import click

from modelsurgeon.files import is_device, is_stdout, is_written_through, replacing, same_file
from modelsurgeon.progress import Progress
from modelsurgeon.report import formatting
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from modelsurgeon.comparison.compare import Comparison

FILE_WIDTH = 120


class Showable(Protocol):
    """A result: plain data, and tables for people."""

    def as_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The data for `--format json`."""

    def tables(self) -> Sequence[Table]:
        """The tables for all other formats."""


S = TypeVar("S", bound=Showable)


def as_text(result: Showable, _title: str, width: int = FILE_WIDTH) -> str:
    """All tables as plain text."""
    return "\n".join(table.text(width) for table in result.tables())


def as_json(result: Showable, _title: str) -> str:
    """Strict JSON in ASCII: no NaN, no infinity, every control character escaped."""
    return json.dumps(formatting.plain(result.as_dict()), indent=2) + "\n"


def as_csv(result: Showable, _title: str) -> str:
    """The first table only, which is the main one: a CSV file has one header."""
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
    others: Iterable[str | None] = (),
) -> None:
    """Write the result in its format to the file `output`, or to stdout.

    others: paths of the command's other outputs; where one of them is stdout, the result goes to stderr.
    """
    stream = sys.stderr if any(map(is_stdout, others)) else sys.stdout
    if output is not None:
        write(output, formats[format](result, title))
    elif format != "table":
        emit(formats[format](result, title), stream)
    elif stream.isatty():
        _print(result, stream)
    else:
        emit(as_text(result, title, shutil.get_terminal_size((FILE_WIDTH, 24)).columns), stream)


def emit(text: str, stream: TextIO | None = None) -> None:
    """Write text to stdout or another stream; a reader that closes it early, such as `head`, is no error."""
    stream = stream or sys.stdout
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Buffered text must not raise again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print(result: Showable, stream: TextIO) -> None:
    from rich.console import Console

    from modelsurgeon.report.text_layout import stacked

    Console(file=stream).print(stacked(result.tables()))


def write(path: str, text: str) -> None:
    """Write a text file atomically; into a device or a pipe, once the text is complete."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def warn(comparison: Comparison | None, *, quiet: bool) -> None:
    """Print the warning of a comparison on stderr, if it has one."""
    if comparison is not None and comparison.warning and not quiet:
        label = click.style("warning:", fg="yellow", bold=True)
        click.echo(f"{label} {formatting.escape(comparison.warning)}", err=True)


def check_outputs(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Raise UsageError for outputs that are an input or each other, OSError for those that can't be written.

    Both map the flag or argument of a path to the path, or to None where it isn't given. A device such as
    /dev/null takes several outputs.
    """
    taken = {what: path for what, path in inputs.items() if path is not None}
    for what, path in outputs.items():
        if path is None:
            continue
        for other, used in taken.items():
            if same_file(path, used) or (is_stdout(path) and is_stdout(used)):
                raise click.UsageError(f"{what} {path} is the file of {other} too: name another file.")
        if not is_device(path):
            taken[what] = path
        with suppress(_WriteTrial), replacing(path):
            raise _WriteTrial


def check_weights(outputs: Mapping[str, str | None], files: Iterable[Path]) -> None:
    """Raise UsageError for outputs that would replace an external weights file of an input."""
    if any(path is not None for path in outputs.values()):
        check_outputs(outputs, {f"weights, {file}": str(file) for file in files})


def with_data_files(outputs: Mapping[str, str | None], models: Mapping[str, str]) -> dict[str, str | None]:
    """The outputs, with the second file that a model above 2 GB would need. models: flag -> path."""
    data = {
        f"the data of {flag}": f"{path}.data" for flag, path in models.items() if not is_written_through(path)
    }
    return {**outputs, **data}


class _WriteTrial(Exception):
    """Aborts the trial write, so that no file is left."""


@contextmanager
def progress(message: str, *, quiet: bool) -> Iterator[Progress | None]:
    """Show a spinner on stderr while the block runs, on terminals only; quiet: no warnings either.

    Yields a callback for a library call, whose progress a bar next to the spinner shows; None off terminals.
    What the user's own code prints in the block goes to stderr: it is no result.
    """
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        if quiet:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        shown = sys.stderr.isatty() and not quiet
        yield stack.enter_context(_on_terminal(formatting.escape(message))) if shown else None


@contextmanager
def _on_terminal(message: str) -> Iterator[Progress]:
    from rich import progress as bars
    from rich.console import Console

    description = bars.TextColumn("{task.description}", markup=False)
    columns = (bars.SpinnerColumn(), description, bars.BarColumn(bar_width=20), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(message, total=None)
        current = ""

        def report(step: str, done: int, total: int) -> None:
            nonlocal current
            if is_new := step != current:  # the time left is that of this step, without the earlier ones
                current = step
                bar.reset(task)
            bar.update(task, description=f"{message}: {step}", completed=done, total=total, refresh=is_new)

        yield report
