"""The `modelsurgeon bn` commands: JSON output, tolerance and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import modelsurgeon as ms
from tests.cli.conftest import Command
from tests.onnx.passes.batchnorm.nets import CONV, NORM, net

WRITING = ("fold", "freeze", "sanitize", "recalibrate")


@pytest.fixture
def normed(here: Path) -> Path:
    """A folder with a convolution and a batch norm in `normed.onnx`, and samples for it."""
    ms.save(net(f"c = Conv (x, w) y = {NORM}", **CONV), here / "normed.onnx")
    samples = np.random.default_rng(0).normal(size=(4, 4, 6, 6)).astype(np.float32)
    np.savez(here / "samples.npz", x=samples)
    return here


def test_inspect_lists_every_norm(run: Command, normed: Path) -> None:
    done = run("bn", "inspect", normed / "normed.onnx", "--data", normed / "samples.npz", "--format", "json")
    assert (done.code, done.err) == (0, "")
    (layer,) = json.loads(done.out)["layers"]
    assert layer["layer"] == "y"
    assert {"rule", "message"} == set(layer["findings"][0])
    assert "variance-drift" in {finding["rule"] for finding in layer["findings"]}


@pytest.mark.usefixtures("normed")
@pytest.mark.parametrize("verb", WRITING)
def test_every_verb_reports_edits_and_comparison(run: Command, verb: str) -> None:
    done = run("bn", verb, "normed.onnx", "-o", "out.onnx", "--data", "samples.npz", "--format", "json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    (edit,) = report["edits"]
    assert {"layer", "action", "skipped"} <= set(edit)
    assert edit["action"] == verb
    assert report["comparison"]["inputs"] == "data"
    (line,) = json.loads(run("history", "out.onnx", "--format", "json").out)
    assert line["verb"] == f"bn {verb}"
    assert line["verdict"] == report["comparison"]["verdict"]


@pytest.mark.usefixtures("normed")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fold", "normed.onnx"), 2, "'-o'"),
        (("fold", "normed.onnx", "-o", "normed.onnx"), 2, "MODEL too"),
        (("fold", "normed.onnx", "-o", "out.onnx", "--only", "conv9"), 1, "no layer is called 'conv9'"),
        (("fold", "normed.onnx", "-o", "out.onnx", "--tolerance", "1e-12"), 1, "bn fold changed the outputs"),
        (("recalibrate", "normed.onnx", "-o", "out.onnx"), 1, "can't be made from noise"),
        (("unfold", "normed.onnx"), 2, "unfold"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    run: Command, here: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run("bn", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (here / "out.onnx").exists()


@pytest.mark.usefixtures("normed")
def test_no_compare_is_reported(run: Command) -> None:
    done = run("bn", "fold", "normed.onnx", "-o", "out.onnx", "--no-compare")
    assert done.code == 0
    assert "not compared" in done.out
