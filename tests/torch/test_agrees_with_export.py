"""A module compressed in place and its export compressed as a graph are the same model."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from torch import nn

from modelsurgeon.factorize import METHODS
from modelsurgeon.onnx import run
from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.layers.sites import sites as graph_sites
from modelsurgeon.surgery.apply import apply_plan
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep
from modelsurgeon.torch.export import export
from modelsurgeon.torch.sites import sites as module_sites


class Planes(nn.Module):
    """2-D: uneven strides, dilation, padding by number and by name, groups, a Linear on three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, (3, 5), stride=(1, 2), padding=(2, 1))
        self.norm = nn.BatchNorm2d(12)
        self.wide = nn.Conv2d(12, 12, 3, dilation=(2, 1), padding="same", bias=False)
        self.grouped = nn.Conv2d(12, 8, 3, stride=2, groups=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 12, (4, 3), stride=(2, 3), padding=1, output_padding=(0, 1), groups=2)
        self.shared = nn.Conv2d(12, 12, 3, padding=1)
        self.rows = nn.Linear(8, 10)
        self.head = nn.Linear(10, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(self.norm(self.stem(x)).relu()).relu()
        x = self.up(self.grouped(x).relu())
        x = self.shared(self.shared(x).relu())
        return self.head(self.rows(x.mean(1)).mean(1))


class Lines(nn.Module):
    """1-D and 3-D."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(6, 8, 5, stride=2, padding=3, dilation=2)
        self.up = nn.ConvTranspose1d(8, 8, 4, stride=3, padding=2, output_padding=2, dilation=2)
        self.solid = nn.Conv3d(2, 6, (3, 2, 3), stride=(1, 2, 1), padding=(1, 0, 1), groups=2)
        self.out = nn.ConvTranspose3d(6, 4, 3, stride=(2, 1, 1), padding=1, output_padding=(1, 0, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.line(x).relu()).relu()
        return self.out(self.solid(x[..., :28].reshape(-1, 2, 4, 4, 7)).relu())


NETS = {"planes": (Planes, (2, 3, 16, 14)), "lines": (Lines, (2, 6, 20))}


class Case:
    """A net with non-trivial running statistics, its export, and an input."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        make, shape = NETS[kind]
        self.x = torch.randn(shape)
        net = make()
        net(torch.randn(shape))  # in train mode, to update running statistics
        self.net = net.eval()
        self.graph = export(self.net, self.x)
        self.want = self.outputs(self.net)

    def in_place(self, plan: Plan) -> tuple[list[FactorizationEdit], nn.Module]:
        net = deepcopy(self.net)
        return apply_plan(plan, module_sites(net, example=self.x)[0]), net

    def as_graph(self, plan: Plan) -> tuple[list[FactorizationEdit], ir.Model]:
        model = editable_copy(self.graph)
        edits = apply_plan(plan, graph_sites(model)[0])
        ir.passes.common.RemoveUnusedNodesPass()(model)
        return edits, model

    def plan(self, method: str, rank: int) -> Plan:
        return Plan({site.name: PlanStep(method=method, rank=rank) for site in module_sites(self.net)[0]})

    def outputs(self, model: nn.Module | ir.Model) -> np.ndarray:
        if isinstance(model, nn.Module):
            return model(self.x).detach().numpy()
        feed = {model.graph.inputs[0].name: self.x.numpy()}
        return run.runner(model, optimize=False)(feed)["output"]


@pytest.fixture(scope="module", params=NETS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def params(model: nn.Module | ir.Model) -> int:
    """Elements of trained weights; running statistics and shape constants are left out."""
    if isinstance(model, nn.Module):
        return sum(value.numel() for value in model.parameters())
    floats = [v.const_value for name, v in model.graph.initializers.items() if "running" not in name]
    return sum(int(np.prod(t.shape)) for t in floats if t is not None and t.dtype.is_floating_point())


def numbers_of(edit: FactorizationEdit) -> tuple[object, ...]:
    """Values of an edit that module and graph share; only params saved, as a MatMul has no bias."""
    saved = None if edit.params_before is None else edit.params_before - (edit.params_after or 0)
    error = pytest.approx(edit.error, abs=1e-6)
    return edit.method, edit.rank, edit.macs_before, edit.macs_after, saved, error, edit.skipped


@pytest.mark.parametrize("rank", [2, FULL_RANK])
@pytest.mark.parametrize("method", METHODS)
def test_one_plan_gives_equal_models(case: Case, method: str, rank: int) -> None:
    plan = case.plan(method, rank)
    edits, net = case.in_place(plan)
    others, graph = case.as_graph(plan)
    assert {edit.layer: numbers_of(edit) for edit in edits} == {
        edit.layer: numbers_of(edit) for edit in others
    }
    assert sum(edit.skipped is None for edit in edits) >= len(plan) // 2
    assert params(net) == params(graph)
    assert distance(case.outputs(graph), case.outputs(net)) <= 1e-5
    if rank == FULL_RANK:
        assert distance(case.outputs(net), case.want) <= 1e-5
    else:
        assert distance(case.outputs(net), case.want) > 1e-3  # the model did change


def test_compression_and_export_commute(case: Case) -> None:
    plan = case.plan("svd", 2)
    _, net = case.in_place(plan)
    _, graph = case.as_graph(plan)
    again = export(net, case.x)
    assert params(again) == params(graph)
    assert distance(case.outputs(again), case.outputs(graph)) <= 1e-5


def test_a_plan_of_the_graph_fits_the_module(case: Case) -> None:
    plan = Plan({site.name: PlanStep(method="tucker2", rank=2) for site in graph_sites(case.graph)[0]})
    assert plan == case.plan("tucker2", 2)
