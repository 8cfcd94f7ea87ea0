"""The command line of modelsurgeon: one file per verb, each a thin layer over one library call."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence

# A graph is many objects that live as long as the command: garbage collection among them takes up to a third
# of its time. The thresholds of the three generations, much higher than Python's own.
GC_THRESHOLDS = (100_000, 20, 50)

# No collection at exit: all memory is freed anyway.
atexit.register(gc.freeze)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 on success, 1 on an error, 2 on wrong usage, 130 if interrupted."""
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        from modelsurgeon_cli.app import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        gc.set_threshold(*before)
