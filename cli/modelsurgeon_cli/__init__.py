"""The command line of modelsurgeon: one file a verb, each a thin skin over one call of the library."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence

# A graph is many objects that live as long as the command: looking for garbage among them takes up to a third
# of its time. New objects until that is done, and how much more rarely it is done to those that live on.
RARELY = (100_000, 20, 50)

# Nor is it done at the end, when all memory goes back anyway.
atexit.register(gc.freeze)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 a named problem, 2 wrong usage, 130 interrupted."""
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        from modelsurgeon_cli.app import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        gc.set_threshold(*before)
