"""The public functions take every form of a model and give equal results."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api.models import graph, is_source
from tests.cli.conftest import small_net

HAS_TORCH = importlib.util.find_spec("torch") and importlib.util.find_spec("onnxscript")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch and onnxscript aren't installed")
MACS = 16 * 4 * 9 * 144 + 32 * 16 * 9 * 36 + 1152 * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(small_net(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_path_a_graph_and_a_proto_cost_the_same(path: Path) -> None:
    models = [path, str(path), ms.load(path), ir.load(path), onnx.load(path)]
    assert {ms.info(model, dims={"N": 1}).totals.macs for model in models} == {MACS}


def test_graph_returns_an_ir_model_itself(path: Path) -> None:
    model = ms.load(path)
    assert graph(model) is model


@pytest.mark.parametrize("thing", [None, 7, b"model", ["model.onnx"], np.zeros(3)])
def test_other_objects_raise_bad_model(thing: object) -> None:
    with pytest.raises(ms.BadModel, match=f"{type(thing).__name__} is no model"):
        ms.info(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["json:loads", "a.b_c.d1:make", "model.pt2"])
def test_pytorch_sources_are_recognized(source: str) -> None:
    assert is_source(source)


@pytest.mark.parametrize(
    "source", ["model.onnx", "C:model", "a/b:c", "C:/m.onnx", "a:b:c", ":a", "a:", "1a:b"]
)
def test_a_path_is_no_pytorch_source(source: str) -> None:
    assert not is_source(source)


def test_an_existing_file_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(small_net(), tmp_path / "package:net")
    assert not is_source("package:net")
    assert ms.info("package:net", dims={"N": 1}).totals.macs == MACS


def test_weights_for_a_file_are_refused(path: Path) -> None:
    with pytest.raises(ms.BadModel, match="leave its weights out"):
        ms.load(path, weights="w.safetensors")


def test_a_saved_model_is_loaded_unchanged(path: Path, tmp_path: Path) -> None:
    ms.save(ms.load(path), tmp_path / "again.onnx")
    assert ms.compare(path, tmp_path / "again.onnx").verdict == "identical"


def test_samples_and_batch_set_the_sample_count(path: Path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(10, 4, 12, 12)).astype(np.float32)}
    assert ms.compare(path, path, data, samples=4).samples == 4
    assert ms.compare(path, path, data, samples=40).samples == 10
    assert ms.compare(path, path, data, samples=4, batch=3).samples == 4
    assert ms.compare(path, path, samples=5).samples == 5
    assert ms.compare(path, path, samples=5, batch=3).samples == 6


def test_compare_notes_noise_and_open_sizes(path: Path) -> None:
    found = ms.compare(path, path)
    assert found.inputs == "noise"
    assert any("noise" in note for note in found.notes)
    assert any("N = 1" in note for note in found.notes)
    assert not any("N = 1" in note for note in ms.compare(path, path, batch=4).notes)
    assert ms.compare(path, path, dims={"N": 2}, samples=4).samples == 4


def test_per_layer_finds_the_first_different_layer(path: Path, tmp_path: Path) -> None:
    other = onnx.load(path)
    weight = next(each for each in other.graph.initializer if each.name == "w2")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, "w2"))
    onnx.save(other, tmp_path / "other.onnx")
    found = ms.compare(path, tmp_path / "other.onnx", per_layer=True)
    errors = {output.name: output.error for output in found.outputs}
    assert errors["c1"] == 0
    assert errors["c2"] == pytest.approx(0.5, rel=1e-4)
    assert set(errors) == {"c1", "c2", "y"}


def test_a_file_is_inspected_without_torch(path: Path) -> None:
    code = f"import modelsurgeon as ms, sys; ms.info({str(path)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@needs_torch
def test_a_module_is_exported_at_the_given_shapes(tmp_path: Path) -> None:
    from torch import nn

    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    shapes = {"input": (1, 3, 8, 8)}
    assert ms.info(module, shapes=shapes).totals.params == sum(p.numel() for p in module.parameters())
    ms.save(module, tmp_path / "net.onnx", shapes=shapes)
    assert ms.compare(module, tmp_path / "net.onnx", shapes=shapes).verdict == "identical"
    with pytest.raises(ms.UnknownShape, match="give the shape of every input"):
        ms.info(module)


@needs_torch
def test_a_source_is_exported_with_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_net.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(6, 2)\n")
    np.savez(tmp_path / "example.npz", input=np.zeros((3, 6), np.float32))
    model = ms.load("a_net:make", example=tmp_path / "example.npz")
    assert ms.info(model).totals.macs == 3 * 6 * 2


@needs_torch
def test_a_pt2_file_needs_trust(tmp_path: Path) -> None:
    with pytest.raises(ms.BadModel, match="--trust"):
        ms.load(tmp_path / "net.pt2")
