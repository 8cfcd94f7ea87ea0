"""`modelsurgeon info`, as it is typed."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command

MACS = 16 * 4 * 9 * 144 + 32 * 16 * 9 * 36 + 1152 * 40


def test_the_table_has_every_layer_and_true_totals(run: Command) -> None:
    done = run("info", "model.onnx", "--dim", "N=1")
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in ("conv1", "conv2", "fc"))
    assert "295 k" in done.out


def test_json_is_the_contract(run: Command) -> None:
    data = json.loads(run("info", "model.onnx", "--dim", "N=1", "--format", "json").out)
    assert data["totals"]["macs"] == MACS
    assert data["totals"]["params"] == 16 * 36 + 16 + 32 * 144 + 1152 * 40
    assert [layer["name"] for layer in data["layers"] if layer["macs"]] == ["conv1", "conv2", "fc"]
    assert data["model"]["opset"] == {"": 18}


def test_an_open_symbol_gives_formulas(run: Command) -> None:
    data = json.loads(run("info", "model.onnx", "--format", "json").out)
    assert data["formulas"]["macs"].replace(" ", "") == f"{MACS}*N"
    assert data["totals"]["macs"] == MACS


@pytest.mark.parametrize("option", [("--shape", "x=2,4,12,12"), ("--dim", "N=2")])
def test_shapes_and_dims_bind(run: Command, option: tuple[str, str]) -> None:
    data = json.loads(run("info", "model.onnx", *option, "--format", "json").out)
    assert data["totals"]["macs"] == 2 * MACS
    assert not data.get("formulas")


def test_csv_is_one_table(run: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(run("info", "model.onnx", "--dim", "N=1", "--format", "csv").out)))
    assert sum(int(row["macs"]) for row in rows) == MACS


def test_markdown_and_html_name_the_layers(run: Command) -> None:
    assert "| conv1 |" in run("info", "model.onnx", "--format", "markdown").out
    page = run("info", "model.onnx", "--format", "html").out
    assert page.startswith("<!doctype html>")
    assert "conv1" in page


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "html"])
def test_output_writes_a_file_and_prints_nothing(run: Command, here: Path, format: str) -> None:
    done = run("info", "model.onnx", "--format", format, "--output", "result")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "conv1" in (here / "result").read_text(encoding="utf-8")


def test_a_reader_that_leaves_is_no_problem(here: Path) -> None:
    program = f"{sys.executable} -m modelsurgeon_cli info model.onnx --format json"
    code = "import os; os.close(0)"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} | {sys.executable} -c '{code}'"],
        capture_output=True,
        text=True,
        cwd=here,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_names_do_no_harm_on_a_terminal_or_off_it(run: Command, here: Path) -> None:
    import onnx

    model = onnx.load(here / "model.onnx")
    model.graph.node[0].name = "[red]\x1b[31m\n<script>"
    onnx.save(model, here / "nasty.onnx")
    done = run("info", "nasty.onnx")
    assert "[red]\\x1b[31m\\n<script>" in done.out
    assert "<script>" not in run("info", "nasty.onnx", "--format", "html").out
    assert json.loads(run("info", "nasty.onnx", "--format", "json").out)["layers"][0]["name"] == (
        "[red]\x1b[31m\n<script>"
    )
