"""docs/cli.md, generated from the help of all verbs: `python -m modelsurgeon_cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from modelsurgeon_cli.app import surgeon

HELP_WIDTH = 92
PAGE_HEAD = """# The command line

Generated from `--help` by `python -m modelsurgeon_cli.reference > docs/cli.md`; a test compares.
"""


def reference() -> str:
    """The help of the program and of all its verbs, as Markdown."""
    parts = [f"## {ctx.command_path}\n\n```text\n{_help(ctx)}\n```\n" for ctx in contexts()]
    return "\n".join([PAGE_HEAD, *parts])


def contexts() -> Iterator[click.Context]:
    """The contexts of the program, then of every verb; a group is followed by its own verbs."""
    top = click.Context(
        surgeon, info_name="modelsurgeon", terminal_width=HELP_WIDTH, **surgeon.context_settings
    )
    yield top
    yield from _subcommands(top, surgeon)


def _subcommands(parent: click.Context, group: click.Group) -> Iterator[click.Context]:
    for name in group.list_commands(parent):
        if command := group.get_command(parent, name):
            ctx = click.Context(command, info_name=name, parent=parent, terminal_width=HELP_WIDTH)
            yield ctx
            if isinstance(command, click.Group):
                yield from _subcommands(ctx, command)


def _help(ctx: click.Context) -> str:
    return "\n".join(line.rstrip() for line in ctx.command.get_help(ctx).splitlines())


if __name__ == "__main__":
    click.echo(reference(), nl=False)
