"""The command line on package.module:factory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from safetensors.torch import save_file

import modelsurgeon as ms
from modelsurgeon.onnx import run
from modelsurgeon.torch.factory import load_module
from modelsurgeon_cli import main

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        print("a forward that talks")
        return self.head(self.body(self.norm(self.stem(image)).relu()).mean((2, 3)))

class Branch(nn.Module):
    def forward(self, image):
        return image if image.sum() > 0 else -image
"""
SHAPE = ("--shape", "image=2,3,16,16")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with nets, weights in both formats, and samples."""
    (tmp_path / "typed_case.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    path = sys.path.copy()
    torch.manual_seed(0)
    state = load_module("typed_case:Net").state_dict()
    torch.save({"state_dict": state}, "weights.pth")
    save_file(state, "weights.safetensors")
    np.savez("data.npz", image=np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32))
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("typed_case", None)


def stdout_of(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints to stdout, if it succeeds."""
    capfd.readouterr()
    code = main(list(arguments))
    out, err = capfd.readouterr()
    assert code == 0, err
    return out


@pytest.mark.usefixtures("here")
def test_info(capfd: pytest.CaptureFixture[str]) -> None:
    found = json.loads(
        stdout_of(capfd, "info", "typed_case:Net", "--weights", "weights.pth", *SHAPE, "--format", "json")
    )
    assert [row["name"] for row in found["layers"] if row["macs"]] == ["stem", "body", "head"]
    assert found["totals"]["macs"] == 2 * (16 * 16 * 16 * 27 + 8 * 8 * 32 * 144 + 320)
    assert found["totals"]["params"] == 448 + 64 + 4640 + 330
    assert found["model"]["inputs"] == [{"name": "image", "dtype": "float32", "shape": [2, 3, 16, 16]}]


@pytest.mark.usefixtures("here")
def test_info_takes_weights_from_a_file_and_shows_them(capfd: pytest.CaptureFixture[str]) -> None:
    files = ("--weights", "weights.safetensors")
    plain = json.loads(stdout_of(capfd, "info", "typed_case:Net", *files, *SHAPE, "--format", "json"))
    assert "weights" not in plain
    found = json.loads(
        stdout_of(capfd, "info", "--weights", "typed_case:Net", *files, *SHAPE, "--format", "json")
    )
    stem = next(entry for entry in found["weights"] if entry["layer"] == "stem")
    weight = torch.load("weights.pth")["state_dict"]["stem.weight"].numpy()
    assert stem["abs_max"] == pytest.approx(float(np.abs(weight).max()), rel=1e-6)
    assert stem["spectrum"]["norm"] == pytest.approx(np.linalg.norm(weight.reshape(16, -1), 2), rel=1e-5)


def test_compress(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = ("typed_case:Net", "--weights", "weights.safetensors", *SHAPE)
    budget = ("--params", "0.7", "--method", "svd", "--save-plan", "plan.json")
    out = stdout_of(
        capfd, "compress", *source, "-o", "small.onnx", *budget, "--data", "data.npz", "--format", "json"
    )
    found = json.loads(out)
    assert found["after"]["params"] <= found["before"]["params"] * 0.7
    assert found["comparison"]["inputs"] == "data"

    net = load_module("typed_case:Net", "weights.pth")
    stdout_of(capfd, "compress", *source, "-o", "again.onnx", "--plan", "plan.json", "--quiet")
    ms.compress(net, plan="plan.json")
    image = np.load("data.npz")["image"][:2]
    got = run.runner(ms.load(here / "again.onnx"))({"image": image})["output"]
    want = net(torch.tensor(image)).detach().numpy()
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.usefixtures("here")
def test_an_error_is_one_line_on_stderr() -> None:
    command = [sys.executable, "-m", "modelsurgeon_cli", "info", "typed_case:Branch", "--shape", "image=1,3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: torch can't export Branch: Could not guard on data-dependent")
    assert done.stderr.count("\n") == 1
