"""Fixtures that run the command line in this process on a small net."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelsurgeon_cli import main


@dataclass(frozen=True, kw_only=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], here: Path) -> Command:  # noqa: ARG001 - sets the folder
    """Runs `modelsurgeon` with these arguments, in the folder `here`."""

    def command(*arguments: object) -> Done:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Done(code=code, out=out, err=err)

    return command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary working folder with a small net in `model.onnx`, its samples, and `steps.toml`."""
    monkeypatch.chdir(tmp_path)
    onnx.save(small_net(), tmp_path / "model.onnx")
    samples = np.random.default_rng(1).normal(size=(12, 4, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=samples)
    (tmp_path / "steps.toml").write_text('model = "model.onnx"\n[[step]]\nverb = "bn fold"\n')
    return tmp_path


def small_net(channels: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Two convolutions and a fully connected layer; every weight is of CP rank 3, plus a little noise."""
    draw = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        value = np.zeros(shape) + 0.01 * draw.normal(size=shape)
        for _ in range(3):
            value += reduce(np.multiply.outer, [draw.normal(size=size) for size in shape])
        return numpy_helper.from_array((value / value.std() / 8).astype(np.float32), name)

    weights = [
        weight("w1", channels, 4, 3, 3),
        numpy_helper.from_array(draw.normal(size=channels).astype(np.float32), "b1"),
        weight("w2", 2 * channels, channels, 3, 3),
        weight("w3", 72 * channels, 40),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 40])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
