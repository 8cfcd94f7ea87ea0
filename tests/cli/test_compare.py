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


def renamed(here: Path, name: str, **names: str) -> None:
    """The small net with other names of inputs and outputs."""
    net = small_net()
    for value in (*net.graph.input, *net.graph.output):
        value.name = names.get(value.name, value.name)
    for node in net.graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
    onnx.save(net, here / name)


def test_outputs_of_other_names_have_no_verdict(run: Command, here: Path) -> None:
    renamed(here, "renamed.onnx", y="scores")
    done = run("compare", "model.onnx", "renamed.onnx", "--format", "json")
    assert done.code == 1
    data = json.loads(done.out)
    assert (data["verdict"], data["outputs"], data["rel_l2"]) == (None, [], None)
    assert data["reason"] in done.err
    assert done.err.count("\n") == 1
    assert "--no-compare" not in done.err


def test_by_position_pairs_inputs_and_outputs(run: Command, here: Path) -> None:
    renamed(here, "renamed.onnx", x="image", y="scores")
    done = run("compare", "model.onnx", "renamed.onnx")
    assert done.code == 1
    assert "B (" in done.err and "renamed.onnx): it takes the input image, and A takes x" in done.err
    done = run("compare", "model.onnx", "renamed.onnx", "--by-position", "--format", "json")
    assert (done.code, json.loads(done.out)["verdict"]) == (0, "identical")


def test_layers_that_were_narrowed_pass(run: Command) -> None:
    run("compress", "model.onnx", "-o", "small.onnx", "--rank", "4", "--data", "calibration.npz")
    compared = ("compare", "model.onnx", "small.onnx", "--data", "calibration.npz", "--tolerance", "0.5")
    done = run(*compared, "--per-layer", "--format", "json")
    assert done.code == 0
    data = json.loads(done.out)
    assert data["rel_l2"] == data["outputs"][0]["rel_l2"]
    assert any("of 2 layers of A have a counterpart in B" in note for note in data["notes"])


def test_a_cut_that_nothing_was_asked_of_is_warned_of(run: Command) -> None:
    command = ("compress", "model.onnx", "-o", "tiny.onnx", "--rank", "1", "--method", "svd")
    done = run(*command)
    assert done.code == 0
    assert done.err.startswith("warning: the outputs changed much: relative L2 is ")
    assert "no tolerance was given, so nothing was asked of it" in done.out
    assert "further apart than allowed" not in done.out
    assert run(*command, "--quiet").err == ""
