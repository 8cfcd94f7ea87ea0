"""Compressing a module from end to end: in place, trainable, and the same as its export."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from torch import nn

import modelsurgeon as ms
from modelsurgeon.errors import BadData, BadModel, BadPlan, ToleranceExceeded, UnknownShape, Unreachable
from modelsurgeon.onnx import run
from modelsurgeon.torch.export import export
from modelsurgeon.torch.model import TorchModel


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.rows = nn.Linear(8, 16)
        self.drop = nn.Dropout()
        self.head = nn.Linear(32 * 8 * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.body(self.norm(self.stem(image)).relu())
        return self.head(self.drop(self.rows(x).relu()).flatten(1))


RNG = np.random.default_rng(0)
DATA = {"image": RNG.normal(size=(6, 3, 16, 16)).astype(np.float32)}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def outputs(net: nn.Module) -> np.ndarray:
    net = deepcopy(net).eval()
    return net(torch.tensor(DATA["image"])).detach().numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_a_module_is_compressed_in_place_and_stays_trainable(net: Net) -> None:
    before = outputs(net)
    result = ms.compress(net, macs=0.5, method="svd", data=DATA)
    assert result.model is net
    assert 0 < result.after["macs"] <= result.before["macs"] / 2
    assert result.after["params"] == sum(p.numel() for p in net.parameters()) + 32
    assert result.comparison is not None
    held_out = [2, 5]  # not used for fitting
    ours, theirs = outputs(net)[held_out], before[held_out]
    assert result.comparison.worst == pytest.approx(distance(ours, theirs), rel=1e-3)
    assert all(part.training for part in net.modules())
    net(torch.tensor(DATA["image"])).square().sum().backward()
    assert all(value.grad is not None for value in net.parameters())


def test_the_plan_of_a_module_fits_its_export(net: Net) -> None:
    graph = export(deepcopy(net).eval(), {"image": DATA["image"][:1]})
    result = ms.compress(net, params=0.5, method="tucker2", data=DATA, refit=False)
    other = ms.compress(graph, plan=result.plan, data=DATA, refit=False)  # a search amplifies rounding
    assert {edit.layer: edit.rank for edit in result.edits} == {edit.layer: edit.rank for edit in other.edits}
    assert other.after["macs"] == result.after["macs"]
    assert other.after["params"] == result.after["params"]
    got = np.concatenate([run.runner(other.model)({"image": x[None]})["output"] for x in DATA["image"]])
    assert distance(got, outputs(net)) <= 1e-5


def test_the_plan_of_an_export_fits_the_module(net: Net) -> None:
    plan = ms.compress(export(deepcopy(net).eval(), DATA), rank=4, data=DATA, compare=False).plan
    result = ms.compress(net, plan=plan.as_dict(), data=DATA)
    assert {edit.layer for edit in result.edits if edit.skipped is None} == set(plan)


def both_totals(module: nn.Module) -> tuple[dict[str, int], dict[str, int]]:
    name = "image" if isinstance(module, Net) else "input"
    shapes = {name: (1, 3, 16, 16)}
    return TorchModel(module, shapes=shapes).totals(), ms.info(module, shapes=shapes).as_dict()["totals"]


@pytest.mark.parametrize(
    "make", [Net, lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), nn.BatchNorm2d(6))]
)
def test_totals_are_those_of_info(make: Callable[[], nn.Module]) -> None:
    ours, others = both_totals(make().eval())
    assert ours == {key: others[key] for key in ours}


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(256, 5, batch_first=True),
        lambda: nn.TransformerEncoderLayer(256, 4, 16, batch_first=True),
    ],
)
def test_macs_of_fused_layers_are_those_of_info(make: Callable[[], nn.Module]) -> None:
    ours, others = both_totals(nn.Sequential(nn.Flatten(2), make()).eval())
    assert ours["macs"] == others["macs"] > 0


@pytest.mark.parametrize(
    ("data", "held_out"),
    [
        (DATA["image"], 2),
        (torch.tensor(DATA["image"]), 2),
        ([{"image": DATA["image"][:3]}, {"image": DATA["image"][3:]}], 6),  # three are too few to calibrate
        ([(torch.tensor(DATA["image"]), torch.arange(6))], 6),  # a loader's batch, with labels
        (iter([DATA["image"]]), 6),
    ],
)
def test_data_in_each_form(net: Net, data: object, held_out: int) -> None:
    result = ms.compress(net, rank=4, method="svd", data=data)
    assert result.comparison is not None
    assert (result.comparison.inputs, result.comparison.samples) == ("data", held_out)


def test_shapes_alone_are_compared_on_noise(net: Net) -> None:
    result = ms.compress(net, rank=4, method="svd", shapes={"image": (1, 3, 16, 16)})
    assert result.comparison is not None
    assert result.comparison.inputs == "noise"


def test_no_comparison_without_data_or_shapes(net: Net) -> None:
    result = ms.compress(net, rank=4, method="svd")
    assert result.comparison is None
    assert "not compared" in result.notes
    assert type(net.head) is nn.Sequential


def test_a_budget_in_macs_needs_sizes(net: Net) -> None:
    with pytest.raises(UnknownShape, match="needs the sizes of the inputs: pass data or shapes"):
        ms.compress(net, macs=0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [("data.npz", "not on a file: load it first"), (3, "data of type int"), ([], "no batch")],
)
def test_invalid_data_raises(net: Net, data: object, message: str) -> None:
    with pytest.raises(BadData, match=message):
        ms.compress(net, rank=4, data=data)


def test_a_fresh_copy_is_the_original(net: Net) -> None:
    editable = TorchModel(net, data=DATA)
    before = editable.runner()(DATA)["output"]
    editable.sites[0].replace([replace(editable.sites[0].layer, bias=None)])
    fresh = editable.fresh_copy()
    np.testing.assert_array_equal(fresh.runner()(DATA)["output"], before)
    assert not np.array_equal(editable.runner()(DATA)["output"], before)


def test_a_module_that_cant_be_copied() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older weight norm, deprecated and still in use
        module = nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(
        BadModel, match="Sequential can't be copied, to be compared with itself: Only Tensors"
    ):
        ms.compress(module, rank=1)


def test_a_dry_run_changes_nothing(net: Net) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = ms.compress(net, macs=0.5, method="svd", data=DATA, dry_run=True)
    assert result.plan
    assert result.after["macs"] < result.before["macs"]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_layers_are_chosen_by_name(net: Net) -> None:
    result = ms.compress(net, rank=2, method="svd", data=DATA, only=["body", "head"], skip=["head"])
    assert list(result.plan) == ["body"]
    reasons = {edit.layer: edit.skipped for edit in result.edits if edit.skipped}
    assert set(reasons) == {"stem", "rows", "head"}
    with pytest.raises(BadPlan, match="no layer is called 'haed'"):
        ms.compress(net, rank=2, only=["haed"])


def test_an_exceeded_tolerance(net: Net) -> None:
    with pytest.raises(ToleranceExceeded, match="relative L2 at the outputs is"):
        ms.compress(net, rank=1, method="svd", data=DATA, tolerance=1e-4)


def test_the_result_as_plain_data_and_tables(net: Net) -> None:
    result = ms.compress(net, rank=4, method="svd", data=DATA)
    again = json.loads(json.dumps(result.as_dict()))
    assert set(again) >= {"before", "after", "edits", "comparison", "latency", "plan"}
    assert next(table.title for table in result.tables()) == "Layers replaced"


def test_a_module_is_not_timed(net: Net) -> None:
    with pytest.raises(Unreachable, match="a module is not timed: export it, and compress the export"):
        ms.compress(net, speedup=1.5, shapes={"image": (1, 3, 16, 16)})
