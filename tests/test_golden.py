"""Printed tables equal those in tests/golden/, and their columns add up to the totals.

After an intended change, `GOLDEN=write pytest tests/test_golden.py` rewrites tests/golden/; review the
difference before committing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import modelsurgeon as ms
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.inspection.difference import Difference
from modelsurgeon.report.columns import Row
from modelsurgeon.report.table import Table
from tests import zoo

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits" / "model.onnx"
WIDTHS = (80, 140)
SUMS = ("macs", "params", "param_bytes")


def digits() -> Analysis:
    return checked(ms.info(DIGITS, dims={"batch": 32}, memory=True, training=True))


def tree() -> Analysis:
    return checked(ms.info(DIGITS).nested(2).sorted_by("macs"))


def dynamic() -> Analysis:
    return ms.info(zoo.classifier(), memory=True, training=True)


def branches() -> Analysis:
    return ms.info(zoo.branches(), memory=True, training=True)


def changes() -> Difference:
    return ms.diff(zoo.branches(), zoo.branches("yes"))


def checked(found: Analysis) -> Analysis:
    """The analysis, whose path is checked here."""
    assert found.model["path"] == str(DIGITS)
    return found


CASES: dict[str, Callable[[], Analysis | Difference]] = {
    case.__name__: case for case in (digits, tree, dynamic, branches, changes)
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_tables_equal_the_golden_files(name: str, width: int) -> None:
    golden = HERE / "golden" / f"{name}_{width}.txt"
    printed = "\n".join(table.text(width) for table in CASES[name]().tables())
    assert max(map(len, printed.splitlines())) <= width
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8"), "if that is meant: GOLDEN=write pytest " + __file__


@pytest.mark.parametrize("name", ["digits", "tree", "dynamic", "branches"])
def test_columns_add_up_to_the_totals(name: str) -> None:
    layers = CASES[name]().tables()[0]
    check(layers, SUMS, [row for row in layers.rows if not row["level"]])


@pytest.mark.parametrize("name", ["digits", "dynamic", "branches"])
def test_sections_add_up_too(name: str) -> None:
    found = CASES[name]()
    assert isinstance(found, Analysis)
    [peak] = found.sections["memory"].tables()
    check(peak, ("bytes", "share"), peak.rows)
    sums, kept = found.sections["training"].tables()
    check(sums, [column.key for column in sums.columns[1:]], sums.rows)
    assert kept.total is not None
    assert sum(row["bytes"] for row in kept.rows) <= kept.total["bytes"]


def check(table: Table, keys: Sequence[str], rows: Sequence[Row]) -> None:
    assert table.total is not None
    for key in keys:
        assert sum(row[key] for row in rows) == pytest.approx(table.total[key])
