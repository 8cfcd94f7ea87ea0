"""Time and memory of a whole compression: `pytest -s tests/benchmarks/test_large.py` prints them.

ResNet-50 and VGG-16 at half of their MACs, from the command line, with 256 images of 224 x 224. The table
states whether the promises held in this run; a missed promise doesn't fail the test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from rich.console import Console

from modelsurgeon.report.columns import Column, Row
from modelsurgeon.report.table import Table
from tests.benchmarks.classics import images, resnet50, vgg16
from tests.benchmarks.processes import taken

pytestmark = pytest.mark.slow

SAMPLES = 256
MINUTES = 5.0
SIZES = 4  # peak memory allowed, in sizes of the model file,
BESIDES = 1e9  # and bytes in addition
PATIENCE = 1800.0
NETS = {"ResNet-50": resnet50, "VGG-16, convolutions": vgg16}
COLUMNS = [
    Column(key="net", title="net", kind="text"),
    Column(key="size", title="file", kind="bytes"),
    Column(key="minutes", title="minutes", kind="float"),
    Column(key="peak", title="peak", kind="bytes"),
    Column(key="most", title="at most", kind="bytes"),
    Column(key="held", title="", kind="text"),
]


def row(name: str, folder: Path) -> Row:
    """Time and memory for one net."""
    ir.save(NETS[name](), folder / "net.onnx")
    np.savez(folder / "data.npz", x=images(SAMPLES, 224))
    cut = ["compress", folder / "net.onnx", "--macs", "0.5", "--data", folder / "data.npz"]
    command = [sys.executable, "-m", "modelsurgeon_cli", *cut, "-o", folder / "small.onnx"]
    found = taken(command, patience=PATIENCE)
    assert found.ended == 0, found.printed
    size = (folder / "net.onnx").stat().st_size
    most = SIZES * size + BESIDES
    held = found.seconds <= 60 * MINUTES and found.peak <= most
    return {
        "net": name,
        "size": size,
        "minutes": found.seconds / 60,
        "peak": found.peak,
        "most": most,
        "held": "held" if held else "NOT HELD",
    }


@pytest.mark.parametrize("name", NETS)
def test_the_table(name: str, tmp_path: Path) -> None:
    table = Table(title=f"With {SAMPLES} samples", columns=COLUMNS, rows=[row(name, tmp_path)])
    Console(width=100).print(table)
