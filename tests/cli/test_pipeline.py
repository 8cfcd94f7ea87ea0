"""The `modelsurgeon pipeline` command: a failing step means that nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

STEPS = 'model = "model.onnx"\nout = "small.onnx"\n[[step]]\nverb = "extract"\noutputs = ["r2"]\n'
COMPRESS = '[[step]]\nverb = "compress"\nrank = 2\n'


def test_it_writes_the_last_model_and_reports_every_step(run: Command, here: Path) -> None:
    (here / "mine.toml").write_text(STEPS + COMPRESS)
    done = run("pipeline", "mine.toml", "--format", "json")
    assert done.code == 0
    assert done.err.startswith("warning: the outputs changed much: relative L2 is 0.5")
    assert [step["verb"] for step in json.loads(done.out)["steps"]] == ["extract", "compress"]
    lines = json.loads(run("history", "small.onnx", "--format", "json").out)
    assert [line["verb"] for line in lines] == ["extract", "compress"]


def test_options_override_the_file(run: Command, here: Path) -> None:
    (here / "mine.toml").write_text(STEPS.replace("model.onnx", "nowhere.onnx"))
    assert run("pipeline", "mine.toml", "--model", "model.onnx", "-o", "other.onnx").code == 0
    assert (here / "other.onnx").exists()
    assert not (here / "small.onnx").exists()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (STEPS + COMPRESS + "max_macs = 10\n", 1, "step 2, compress: macs is"),
        (STEPS + COMPRESS + "tolerance = 1e-9\n", 1, "relative L2"),
        (STEPS.replace("small.onnx", "model.onnx"), 2, "the model too"),
        (STEPS.replace('out = "small.onnx"\n', ""), 2, "-o OUT is missing"),
        (STEPS.replace("extract", "extrakt"), 1, "there are bn fold"),
    ],
)
def test_a_failure_writes_nothing(run: Command, here: Path, text: str, code: int, message: str) -> None:
    (here / "mine.toml").write_text(text)
    before = (here / "model.onnx").read_bytes()
    done = run("pipeline", "mine.toml")
    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not (here / "small.onnx").exists()
    assert (here / "model.onnx").read_bytes() == before
