"""Sweeps over budgets: each point equals `compress`, and shared stages run once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.compression.rollback import NO_GAIN
from modelsurgeon.errors import BadPlan, ToleranceExceeded, Unreachable
from modelsurgeon.report.table import Table
from tests.calibration.nets import ending, pictures

KEPT = [0.7, 0.45]


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return ending("y = Identity (z)")


@pytest.fixture(scope="module")
def found(net: ir.Model) -> tuple[ms.Frontier, list[tuple[str, int, int]]]:
    progress: list[tuple[str, int, int]] = []
    return ms.sweep(net, KEPT, data=pictures(16, 1), watch=lambda *what: progress.append(what)), progress


def test_each_point_equals_compress(net: ir.Model, found: tuple[ms.Frontier, Any]) -> None:
    frontier, _ = found
    assert [point.fraction for point in frontier.points] == KEPT
    for point in frontier.points:
        alone = ms.compress(net, macs=point.fraction, data=pictures(16, 1))
        assert point.result.plan == alone.plan
        assert (point.result.predicted, point.result.measured) == (alone.predicted, alone.measured)
        assert (
            ir.to_proto(point.result.model).SerializeToString()
            == ir.to_proto(alone.model).SerializeToString()
        )


def test_shared_stages_run_once(found: tuple[ms.Frontier, Any]) -> None:
    _, progress = found
    ended = [what for what, done, total in progress if done == total]
    assert ended == ["calibration", "candidates", "sensitivity", "trial fits", *2 * ["fitting", "comparison"]]


def test_the_frontier_shows_cost_and_error_of_each_point(found: tuple[ms.Frontier, Any]) -> None:
    frontier, _ = found
    costs, layers = frontier.tables()
    for row, point in zip(costs.rows, frontier.points, strict=True):
        assert row["fraction"] == point.fraction and row["macs_kept"] <= point.fraction
        assert row["measured"] == point.result.measured and row["predicted"] == point.result.predicted
        assert float(row["speedup"].split()[0]) > 0
    assert costs.html().count("<circle") == 4
    assert [row["layer"] for row in layers.rows] == ["a", "b", "c"]
    assert set(costs.csv().splitlines()[0].split(",")) >= {"fraction", "macs", "measured", "speedup"}
    data = frontier.as_dict()
    assert [point["fraction"] for point in data["points"]] == KEPT
    assert json.loads(json.dumps(data)) == data


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_fit_the_width(found: tuple[ms.Frontier, Any], width: int) -> None:
    lines = [line for table in found[0].tables() for line in table.text(width).splitlines()]
    assert max(map(len, lines)) <= width
    assert all(word in lines[1] for word in ("asked", "MACs", "times faster", "measured"))


def test_a_dry_run_sweeps_without_models(net: ir.Model) -> None:
    frontier = ms.sweep(net, [0.8, 0.6], of="params", dry_run=True)
    for point in frontier.points:
        assert point.result.model is None
        kept = point.kept("params")
        assert kept is not None and kept <= point.fraction
    assert isinstance(frontier.tables()[0], Table)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ([], "a sweep without fractions"),
        ([0.5, 1.5], "1.5 is no fraction"),
        ([0.5, 0.5], "0.5 is asked for twice"),
    ],
)
def test_invalid_fractions_raise(net: ir.Model, fractions: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ms.sweep(net, fractions)


def test_a_failing_point_raises(net: ir.Model) -> None:
    with pytest.raises(Unreachable, match=r"at least 0\.\d+ of the macs remain"):
        ms.sweep(net, [0.9, 0.001], compare=False)
    with pytest.raises(ToleranceExceeded, match=r"at 0\.4 of the macs: relative L2"):
        ms.sweep(net, [0.4], tolerance=1e-6)
    with pytest.raises(BadPlan, match="no layer is called"):
        ms.sweep(net, [0.4], only=["nope"])


def test_the_module_is_not_modified() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).eval()
    before = str(module)
    data = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    frontier = ms.sweep(module, [0.8, 0.65], data=torch.from_numpy(data))
    assert str(module) == before
    sizes = [sum(p.numel() for p in point.result.model.parameters()) for point in frontier.points]
    assert sizes[1] < sizes[0] < sum(p.numel() for p in module.parameters())


def test_layers_rolled_back_for_latency_are_noted(found: tuple[ms.Frontier, Any]) -> None:
    point = found[0].points[0]
    edits = [replace(edit, skipped=NO_GAIN) for edit in point.result.edits]
    slow = replace(point, result=replace(point.result, edits=edits))
    notes = replace(found[0], points=[slow]).tables()[0].notes
    assert f"at 0.7: {len(edits)} layers were put back: their chains were no faster" in notes
