"""Pickles and deep copies of models and results, also of long graphs and of weights in other files."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

import modelsurgeon as ms
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor

COPIES: dict[str, Callable[[object], object]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own
    "deepcopy": copy.deepcopy,
}


def net(length: int) -> onnx.ModelProto:
    """So many Relus, and a MatMul with a weight that stays on disk."""
    chain = "".join(f"v{i + 1} = Relu(v{i}) " for i in range(length))
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 96] v0) => (float[N, 96] y) '
        f"{{ {chain} y = MatMul(v{length}, W) }}"
    )
    weight = np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "W"))
    proto.graph.node[-1].name = "fc"
    proto.graph.node[0].doc_string = "the first"
    return proto


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A long net with its weight in a second file."""
    onnx.save(
        net(1200), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=100
    )
    return tmp_path / "m.onnx"


def written(model: object, folder: Path) -> bytes:
    """The bytes that the model is saved as."""
    ms.save(model, folder / "saved.onnx")  # type: ignore[arg-type]
    return (folder / "saved.onnx").read_bytes()


@pytest.mark.parametrize("way", COPIES)
def test_a_long_model_with_stored_weights(way: str, path: Path, tmp_path: Path) -> None:
    model = ms.load(path)
    assert isinstance(model.graph.initializers["W"].const_value, StoredTensor)
    same = COPIES[way](model)
    assert isinstance(same, ir.Model)
    assert same is not model
    assert same.meta == model.meta
    before = written(model, tmp_path)
    assert written(same, tmp_path) == before
    same.graph[0].name = "renamed"
    assert written(model, tmp_path) == before


def test_a_pickle_needs_no_file_and_a_deep_copy_shares_the_weights(path: Path, tmp_path: Path) -> None:
    model = ms.load(path)
    held, shared, before = pickle.dumps(model), copy.deepcopy(model), written(model, tmp_path)
    assert shared.graph.initializers["W"].const_value is model.graph.initializers["W"].const_value
    path.unlink()
    (tmp_path / "w.bin").unlink()
    same = pickle.loads(held)  # noqa: S301 - our own
    assert written(same, tmp_path) == before


@pytest.mark.parametrize("way", COPIES)
def test_results(way: str, tmp_path: Path) -> None:
    model = ms.load(save(tmp_path))
    results = [
        ms.info(model, memory=True, training=True, weights=True),
        ms.check(model),
        ms.diff(model, model),
        ms.compare(model, model),
        ms.prune(model),
        ms.steal(model, model),
        ms.history(model),
        ms.bn.inspect(model),
        (compressed := ms.compress(model, rank=4)),
        compressed.plan,
        ms.sweep(model, [0.5]),
        ms.pipeline({"model": str(tmp_path / "m.onnx"), "step": [{"verb": "prune"}]}),
    ]
    for result in results:
        same = COPIES[way](result)
        assert type(same) is type(result)
        assert same.as_dict() == result.as_dict()  # type: ignore[attr-defined]
        if isinstance(getattr(result, "model", None), ir.Model):
            assert written(same.model, tmp_path) == written(result.model, tmp_path)  # type: ignore[attr-defined]


def save(folder: Path) -> Path:
    """A short net in a file."""
    onnx.save(net(2), folder / "m.onnx")
    return folder / "m.onnx"
