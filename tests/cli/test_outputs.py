"""Outputs on stdout, in pipes and on devices: written through, with the report beside them on stderr."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from modelsurgeon_cli import main
from tests.cli.conftest import Command

BYTES = pytest.CaptureFixture[bytes]


def test_the_model_goes_to_stdout_and_the_report_to_stderr(here: Path, capfdbinary: BYTES) -> None:
    verbs = {
        "fold": ["bn", "fold", "model.onnx", "--format", "json"],
        "compress": ["compress", "model.onnx", "--rank", "2", "--format", "json", "--quiet"],
        "steal": ["steal", "model.onnx", "model.onnx", "--format", "json"],
        "pipeline": ["pipeline", "steps.toml", "--format", "json", "--quiet"],
    }
    for name, words in verbs.items():
        assert main([*words, "-o", "-"]) == 0
        out, err = capfdbinary.readouterr()
        assert ("steps" if name == "pipeline" else "edits") in json.loads(err)
        assert main([*words, "-o", "file.onnx", "--output", "report.json"]) == 0
        assert capfdbinary.readouterr() == (b"", b"")
        assert out == (here / "file.onnx").read_bytes()
        onnx.checker.check_model(out, full_check=True)


def test_a_report_goes_to_a_pipe_as_to_a_file(here: Path, run: Command) -> None:
    os.mkfifo(here / "pipe")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit((here / "pipe").read_text)
        done = run("info", "model.onnx", "--format", "json", "--output", "pipe")
        text = reader.result(timeout=30)
    assert (done.code, done.out) == (0, "")
    assert text == run("info", "model.onnx", "--format", "json").out
    assert (here / "pipe").is_fifo()


@pytest.mark.parametrize("path", ["-", "/dev/stdout"])
def test_a_report_on_stdout_by_name(path: str, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # the width of a report in a file
    assert run("check", "model.onnx", "--output", path) == run("check", "model.onnx")


def test_a_plan_and_the_page_go_to_stdout(run: Command) -> None:
    for flag, content in (("--save-plan", '"conv1"'), ("--report", "<html")):
        done = run("compress", "model.onnx", "--rank", 2, "--no-compare", "-o", "small.onnx", flag, "-")
        assert done.code == 0
        assert "layer" in done.err
        assert content in done.out


def test_two_outputs_on_stdout_are_refused(run: Command) -> None:
    done = run("bn", "fold", "model.onnx", "-o", "-", "--output", "/dev/stdout")
    assert done.code == 2
    assert "--output /dev/stdout is the file of -o too: name another file." in done.err
    swept = run("compress", "model.onnx", "--sweep", "0.9,0.5", "-o", "-")
    assert swept.code == 2
    assert "is the file of -o at 0.9, too" in swept.err


def test_a_device_takes_several_outputs_and_stays(here: Path, run: Command) -> None:
    try:
        os.mknod(here / "null", 0o020666, os.makedev(1, 3))
        (here / "null").open("wb").close()
    except OSError:
        pytest.skip("devices can't be made here")
    before = sorted(here.iterdir())
    done = run("compress", "model.onnx", "--sweep", "0.9,0.5", "-o", "null", "--output", "null")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (here / "null").is_char_device()
    assert sorted(here.iterdir()) == before
