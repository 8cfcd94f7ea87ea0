"""The command line of modelsurgeon: one file a verb, each a thin skin over one call of the library."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 a named problem, 2 wrong usage, 130 interrupted."""
    try:
        from modelsurgeon_cli.app import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130
