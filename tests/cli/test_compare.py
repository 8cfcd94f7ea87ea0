"""The `modelsurgeon compare` command."""

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Command, small_net


@pytest.fixture(autouse=True)
def other(here: Path) -> None:
    """Another net with the same inputs and outputs, in `other.onnx`."""
    onnx.save(small_net(seed=1), here / "other.onnx")


def test_a_model_is_identical_to_itself(run: Command) -> None:
    done = run("compare", "model.onnx", "model.onnx", "--format", "json")
    assert (done.code, done.err) == (0, "")
    data = json.loads(done.out)
    assert data["verdict"] == "identical"
    assert data["inputs"] == "noise"
    assert data["outputs"][0]["rel_l2"] == 0


def test_different_models_exit_1_with_the_result_on_stdout(run: Command) -> None:
    done = run("compare", "model.onnx", "other.onnx", "--data", "calibration.npz", "--format", "json")
    assert done.code == 1
    data = json.loads(done.out)
    assert data["verdict"] == "different"
    assert data["inputs"] == "data"
    assert data["samples"] == 12
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


def test_a_wide_tolerance_holds(run: Command) -> None:
    done = run("compare", "model.onnx", "other.onnx", "--tolerance", "1000", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)["verdict"] == "within-tolerance"


def test_samples_limit_noise_and_data(run: Command) -> None:
    for source in ((), ("--data", "calibration.npz")):
        done = run("compare", "model.onnx", "model.onnx", "--samples", "3", *source, "--format", "json")
        assert json.loads(done.out)["samples"] == 3


def test_noise_is_reported(run: Command) -> None:
    assert "noise" in run("compare", "model.onnx", "model.onnx").out
