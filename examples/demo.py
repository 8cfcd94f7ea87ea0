"""Halve the operations of a trained net and see what it costs: what `make demo` runs.

    python examples/demo.py [FOLDER]

FOLDER, `build/demo` unless given, receives compressed.onnx, plan.json and report.html.
Compression sees 256 unlabelled images; everything is judged on 599 others.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

import modelsurgeon as ms
from modelsurgeon.onnx.run import Latency, runner, speedup
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

DIGITS = Path(__file__).parent / "digits"
MODEL, CALIBRATION, TEST = (DIGITS / name for name in ("model.onnx", "calibration.npz", "test.npz"))
TOLERANCE = "0.1"  # relative L2 of the logits: half the work leaves them further apart than rounding does


def surgeon(*arguments: str | Path) -> None:
    """Run the command line as it is typed, and show what was typed."""
    words = [_short(argument) for argument in arguments]
    print(f"\n$ modelsurgeon {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "modelsurgeon_cli", *words], check=True)


def _short(path: str | Path) -> str:
    """A path from here, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here) if isinstance(path, Path) and path.is_relative_to(here) else path)


def accuracy(model: ir.Model) -> float:
    """Share of the test images that the model calls by their label."""
    with np.load(TEST) as test:
        logits = runner(model)({"image": test["image"]})["logits"]
        return float(np.mean(logits.argmax(axis=1) == test["label"]))


def before_and_after(original: Path, compressed: Path) -> Table:
    """Both models side by side; every figure is counted or measured here and now."""
    models = [ms.load(path) for path in (original, compressed)]
    right = [accuracy(model) for model in models]
    totals = [ms.info(model, dims={"batch": 1}).totals for model in models]
    with np.load(TEST) as test:
        timed = speedup(*models, {"image": test["image"][:1]}, repeats=500, threads=1)
    rows = [
        ["accuracy, test images", *(f"{each:.2%}" for each in right), f"{right[1] - right[0]:+.2%}"],
        ["MACs, one image", *counts(*(total.macs for total in totals))],
        ["params", *counts(*(total.params for total in totals))],
        ["bytes of the file", *counts(*(path.stat().st_size for path in (original, compressed)))],
        ["latency, one thread", spread(timed.before), spread(timed.after), f"{timed.speedup:.2f}x faster"],
    ]
    columns = ["", "original", "compressed", "change"]
    return Table(
        title="What half the work costs",
        columns=[Column(key=key, title=key) for key in columns],
        rows=[dict(zip(columns, row, strict=True)) for row in rows],
        notes=["latency: median of 500 runs (10th to 90th percentile), the two models in turn"],
    )


def counts(before: int, after: int) -> tuple[str, str, str]:
    """Two numbers, and what is left of the first."""
    return f"{before:,}", f"{after:,}", f"{after / before:.1%} kept"


def spread(time: Latency) -> str:
    """A latency with its spread."""
    return f"{time.median_ms:.2f} ms ({time.p10_ms:.2f} to {time.p90_ms:.2f})"


def main(folder: Path) -> None:
    """The whole story: look, cut, compare, sum up."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "compressed.onnx"
    surgeon("info", MODEL)
    surgeon(
        "compress", MODEL, "-o", out, "--macs", "0.5", "--data", CALIBRATION, "--tolerance", TOLERANCE,
        "--save-plan", folder / "plan.json", "--report", folder / "report.html",
    )  # fmt: skip
    surgeon("compare", MODEL, out, "--data", TEST, "--tolerance", TOLERANCE)
    print(f"\n{before_and_after(MODEL, out).text()}")
    print(f"Written to {_short(folder)}: compressed.onnx, plan.json and report.html")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["build/demo"]).resolve())
