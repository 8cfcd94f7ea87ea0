"""Wall time, CPU time and peak memory of commands, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KIBIBYTE = 1024  # the unit of ru_maxrss on Linux

# The peak of a process includes the memory of its parent when it was started: a small parent starts it.
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

# Installed packages have bytecode; the first run writes that of packages run from their sources.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a command took: wall and CPU seconds, and the peak resident set in bytes.

    ended: exit status, negative where a signal ended it, as after the timeout.
    """

    seconds: float
    cpu: float
    peak: int
    ended: int
    printed: str


def taken(command: Sequence[str | Path], *, patience: float) -> Taken:
    """Run a command and capture its output; kill it after `patience` seconds."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, str(patience), *map(str, command)],
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
        check=True,
    )
    seconds, cpu, peak, status, printed = json.loads(done.stdout)
    return Taken(
        seconds=seconds,
        cpu=cpu,
        peak=peak * KIBIBYTE,
        ended=os.waitstatus_to_exitcode(status),
        printed=printed,
    )
