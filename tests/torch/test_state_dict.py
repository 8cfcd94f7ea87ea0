"""Weights from files: every form of checkpoint, and an error for each file that doesn't fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("safetensors", reason="safetensors isn't installed")

import torch
from safetensors.torch import save_file, save_model
from torch import nn

from modelsurgeon.errors import BadModel
from modelsurgeon.torch.state_dict import load_weights

State = dict[str, torch.Tensor]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Linear(4, 2))


@pytest.fixture
def state() -> State:
    """Random values, unlike those of a new net."""
    torch.manual_seed(1)
    return {name: torch.rand_like(v) if v.ndim else v + 5 for name, v in net().double().state_dict().items()}


def assert_loaded(path: Path, state: State) -> None:
    module = net().double()
    load_weights(module, path)
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt"])
def test_pickled(tmp_path: Path, state: State, suffix: str) -> None:
    torch.save(state, path := tmp_path / f"weights.{suffix}")
    assert_loaded(path, state)


def test_safetensors(tmp_path: Path, state: State) -> None:
    save_file(state, path := tmp_path / "weights.safetensors")
    assert_loaded(path, state)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"state_dict": state}, "ema": {}},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}}},
        lambda state: {"ema": state},
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        lambda state: {name.replace(".", "._orig_mod.", 1): value for name, value in state.items()},
        lambda state: {"n_averaged": torch.tensor(3)} | prefixed("module.")(state),
    ],
)
def test_wrapped_and_prefixed_checkpoints(tmp_path: Path, state: State, wrap: Callable[[State], Any]) -> None:
    torch.save(wrap(state), path := tmp_path / "checkpoint.pth")
    assert_loaded(path, state)


def test_a_prefix_that_the_module_has_itself(tmp_path: Path) -> None:
    wrapped = nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(wrapped.state_dict(), path := tmp_path / "weights.pth")
    load_weights(other := nn.ModuleDict({"module": nn.Linear(2, 2)}), path)
    assert torch.equal(other["module"].weight, wrapped["module"].weight)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.words.weight


def test_a_tied_weight_is_stored_once(tmp_path: Path) -> None:
    save_model(tied := Tied(), str(path := tmp_path / "weights.safetensors"))
    load_weights(other := Tied(), path)
    assert torch.equal(other.head.weight, tied.words.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), "misses 0.bias: weights of exactly Sequential are needed"),
        (lambda state: state.update(odd=torch.ones(1)), "has unexpected odd: weights of exactly Sequential"),
        (
            lambda state: state.update({f"odd{i}": torch.ones(1) for i in range(5)}),
            "has unexpected odd0, odd1, odd2 and 2 more",
        ),
        (
            lambda state: state.update({"0.weight": torch.ones(3, 2, 5)}),
            r"0.weight is \(3, 2, 5\), Sequential needs \(3, 2, 3\)",
        ),
    ],
)
def test_a_state_that_does_not_fit(
    tmp_path: Path, state: State, change: Callable[[State], object], message: str
) -> None:
    change(state)
    torch.save(state, path := tmp_path / "weights.pth")
    with pytest.raises(BadModel, match=message):
        load_weights(net(), path)


class Payload:
    """Unpickling it would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("pwned"),))


def whole_module(path: Path) -> None:
    torch.save(net(), path)


def payload(path: Path) -> None:
    torch.save({"state_dict": Payload()}, path)


def script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in use
        torch.jit.script(net()).save(str(path))


def cut_short(path: Path) -> None:
    torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (whole_module, "holds more than tensors, and reading that would run code: save module.state_dict"),
        (payload, "holds more than tensors, and reading that would run code"),
        (script, "is no file of weights that torch.save wrote"),
        (cut_short, "is no file of weights that torch.save wrote"),
        (lambda path: path.write_text("hello"), "is no file of weights that torch.save wrote"),
        (lambda path: path.touch(), "is no file of weights that torch.save wrote"),
        (lambda path: torch.save([1, 2], path), "holds no state dict"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no state dict"),
        (Path.exists, "no such file of weights"),
    ],
)
def test_invalid_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(path := tmp_path / "weights.pth")
    with pytest.raises(BadModel, match=message) as raised:
        load_weights(net(), path)
    assert "\n" not in str(raised.value)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.safetensors", "is no sound safetensors file"),
        ("weights.h5", "is none of .safetensors, .pth, .pt, .bin, .ckpt"),
    ],
)
def test_invalid_other_files(tmp_path: Path, name: str, message: str) -> None:
    (path := tmp_path / name).write_text("hello")
    with pytest.raises(BadModel, match=message):
        load_weights(net(), path)
