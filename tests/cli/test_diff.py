"""The `modelsurgeon diff` command."""

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Command


@pytest.fixture
def other(here: Path) -> str:
    """The model with its first Relu replaced by Sigmoid."""
    model = onnx.load(here / "model.onnx")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Sigmoid"
    onnx.save(model, here / "other.onnx")
    return "other.onnx"


def test_changed_layers_are_shown(run: Command, other: str) -> None:
    done = run("diff", "model.onnx", other)
    assert (done.code, done.err) == (0, "")
    assert "Relu → Sigmoid" in done.out
    assert "conv1" not in done.out
    assert "conv1" in run("diff", "model.onnx", other, "--all").out


@pytest.mark.parametrize(("b", "options", "code"), [("other", [], 0), ("other", ["--exit-code"], 1)])
def test_a_difference_exits_1_only_with_exit_code(
    run: Command, other: str, b: str, options: list[str], code: int
) -> None:
    assert other.startswith(b)
    done = run("diff", "model.onnx", other, *options)
    assert (done.code, done.err) == (code, "")
    assert run("diff", "model.onnx", "model.onnx", *options).code == 0


def test_json_lists_the_changes(run: Command, other: str) -> None:
    data = json.loads(run("diff", "model.onnx", other, "--no-weights", "--format", "json").out)
    assert not data["identical"]
    assert [layer["op_after"] for layer in data["layers"]] == [["Sigmoid"]]


@pytest.mark.parametrize("format", ["csv", "markdown", "html"])
def test_every_format_names_the_change(run: Command, other: str, format: str) -> None:
    assert "Sigmoid" in run("diff", "model.onnx", other, "--format", format).out


def test_an_output_over_a_model_is_refused(run: Command, other: str) -> None:
    assert run("diff", "model.onnx", other, "--output", other).code == 2
