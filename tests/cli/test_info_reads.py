"""`info --weights`, a flag unless a weight file follows it, and `info --data`."""

import json

import pytest

from modelsurgeon_cli.flag_or_file import WEIGHT_SUFFIXES, join_option_and_file
from tests.cli.conftest import Command


@pytest.mark.parametrize("words", [("--weights", "model.onnx"), ("model.onnx", "--weights")])
def test_weights_is_a_flag_before_or_after_the_model(run: Command, words: tuple[str, ...]) -> None:
    done = run("info", *words)
    assert (done.code, done.err) == (0, "")
    assert "Spectrum" in done.out
    assert "conv2" in done.out


def test_json_has_an_entry_for_each_tensor(run: Command) -> None:
    data = json.loads(run("info", "model.onnx", "--weights", "--format", "json").out)
    assert [(entry["layer"], entry["role"]) for entry in data["weights"]] == [
        ("conv1", "weight"),
        ("conv1", "bias"),
        ("conv2", "weight"),
        ("fc", "weight"),
    ]
    first = data["weights"][0]
    assert first["shape"] == [16, 4, 3, 3]
    assert first["spectrum"]["full_rank"] == 16
    assert first["operator"]["norm"] >= first["spectrum"]["norm"]
    assert "weights" not in json.loads(run("info", "model.onnx", "--format", "json").out)


def test_other_formats_have_the_weights_too(run: Command) -> None:
    assert "### Weights" in run("info", "model.onnx", "--weights", "--format", "markdown").out
    assert "<caption>Weights</caption>" in run("info", "model.onnx", "--weights", "--format", "html").out


def test_a_weight_file_for_an_onnx_model_is_refused(run: Command) -> None:
    done = run("info", "model.onnx", "--weights", "net.safetensors")
    assert done.code == 1
    assert "leave its weights out" in done.err


def test_two_weight_files_are_wrong_usage(run: Command) -> None:
    done = run("info", "model.onnx", "--weights", "a.pth", "--weights", "b.pth")
    assert done.code == 2
    assert "one file of weights is needed" in done.err


@pytest.mark.parametrize("suffix", WEIGHT_SUFFIXES)
def test_weight_files_are_joined_to_the_option(suffix: str) -> None:
    assert join_option_and_file(["a:b", "--weights", f"net{suffix}", "--weights"]) == [
        "a:b",
        f"--weights=net{suffix}",
        "--weights=",
    ]


@pytest.mark.parametrize("word", ["net.onnx", "pkg.mod:make", "net.pt2", "--top", "folder"])
def test_other_words_are_not_joined(word: str) -> None:
    assert join_option_and_file(["--weights", word]) == ["--weights=", word]


def test_nothing_is_joined_after_two_dashes() -> None:
    assert join_option_and_file(["--", "--weights", "net.pth"]) == ["--", "--weights", "net.pth"]
    assert join_option_and_file(["--weights=net.npz"]) == ["--weights=net.npz"]


def test_data_adds_activations(run: Command) -> None:
    done = run("info", "model.onnx", "--data", "calibration.npz", "--samples", "8", "--batch", "4")
    assert (done.code, done.err) == (0, "")
    assert "Activations" in done.out
    assert "8 samples of data" in done.out
    data = json.loads(run("info", "model.onnx", "--data", "calibration.npz", "--format", "json").out)
    assert [entry["layer"] for entry in data["activations"]] == ["conv1", "relu1", "conv2", "relu2", "fc"]


def test_samples_need_data(run: Command) -> None:
    done = run("info", "model.onnx", "--samples", "8")
    assert done.code == 2
    assert "--data" in done.err
