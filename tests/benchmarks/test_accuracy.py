"""MACs against accuracy, in one table for each net: `make bench` prints them with the other benchmarks.

Alone: `python -m pytest -s -rs tests/benchmarks/test_accuracy.py`. Public models are found below the folder
that MODELSURGEON_MODELS names (packages, unpacked), photos in MODELSURGEON_IMAGES (a thousand of ImageNet, in
the order of their classes); a net whose files are missing is skipped with a message. Options:

    MODELSURGEON_BENCH_NETS     parts of names, comma-separated: ddddocr,rec
    MODELSURGEON_BENCH_KEPT     fractions of the MACs, comma-separated: .5,.4
    MODELSURGEON_BENCH_ARMS     plain,data-free,calibrated
    MODELSURGEON_BENCH_SAMPLES  most calibration samples
    MODELSURGEON_BENCH_TESTS    most test samples
    MODELSURGEON_BENCH_TIMES    0: nothing is timed

The table states for each promise whether it held; a missed promise doesn't fail the test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from modelsurgeon.report.columns import Row
from tests.benchmarks import accuracy
from tests.benchmarks.arms import ARMS
from tests.benchmarks.nets import NETS
from tests.benchmarks.subjects import Absent, Net

pytestmark = [pytest.mark.slow, pytest.mark.models]

WIDTH = 170


def listed(name: str) -> list[str]:
    """Values of an environment variable, split at commas."""
    return [
        part.strip() for part in os.environ.get(f"MODELSURGEON_BENCH_{name}", "").split(",") if part.strip()
    ]


def at_most(name: str, usual: int) -> int:
    given = listed(name)
    return min(int(given[0]), usual) if given else usual


def chosen() -> list[Net]:
    parts = listed("NETS")
    return [net for net in NETS if not parts or any(part.lower() in net.name.lower() for part in parts)]


@pytest.fixture(scope="module")
def promises() -> Iterator[list[Row]]:
    """Promises of all nets, printed at the end."""
    all_rows: list[Row] = []
    yield all_rows
    if len({row["net"] for row in all_rows}) > 1:
        Console(width=WIDTH).print(accuracy.kept(all_rows))


@pytest.mark.parametrize("net", chosen(), ids=lambda net: net.name)
def test_the_table(net: Net, promises: list[Row]) -> None:
    try:
        subject = net.open(at_most("SAMPLES", net.samples), at_most("TESTS", net.tests))
    except Absent as reason:
        pytest.skip(str(reason))
    fractions = [float(part) for part in listed("KEPT")] or net.kept
    timed = listed("TIMES") != ["0"]
    found = []
    for row in accuracy.rows(subject, fractions, listed("ARMS") or list(ARMS), timed=timed):
        found.append(row)
        print(accuracy.line(net, row), file=sys.stderr, flush=True)
    rows = accuracy.promises(net, found)
    promises += rows
    Console(width=WIDTH).print("", accuracy.table(net, found), *([accuracy.kept(rows)] if rows else []))
    assert all(0 < row["kept"] <= 1 for row in found if "kept" in row)
