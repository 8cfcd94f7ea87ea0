"""Commands, each in a process of its own: what they take of the clock, the processor and the memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KIBIBYTE = 1024  # what the kernel tells peaks in

# The kernel counts the memory of the process that starts another as the other's peak: a small one starts it.
STARTER = """
import json, os, subprocess, sys, threading, time
patience, *command = sys.argv[1:]
began = time.perf_counter()
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
stop = threading.Timer(float(patience), process.kill)
stop.start()
printed = process.stdout.read().decode(errors="replace")
_, status, used = os.wait4(process.pid, 0)
stop.cancel()
seconds = time.perf_counter() - began
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss, status, printed]))
"""

# What is installed comes with its bytecode; what is run from its sources makes it in the first run.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a command took; seconds of the clock and of the processor, and the largest resident set in bytes.

    ended: its exit status, negative where it was stopped, as it was after the patience.
    """

    seconds: float
    cpu: float
    peak: int
    ended: int
    printed: str


def taken(command: Sequence[str | Path], *, patience: float) -> Taken:
    """Run a command to its end, or stop it after `patience` seconds; its output is kept."""
    told = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, str(patience), *map(str, command)],
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
        check=True,
    )
    seconds, cpu, peak, status, printed = json.loads(told.stdout)
    return Taken(
        seconds=seconds,
        cpu=cpu,
        peak=peak * KIBIBYTE,
        ended=os.waitstatus_to_exitcode(status),
        printed=printed,
    )
