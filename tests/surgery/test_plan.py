"""Plans: JSON files and invalid plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelsurgeon.errors import BadPlan
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep

PLAN = Plan(
    {
        "conv1": PlanStep(method="spatial-svd", rank=32),
        "fc": PlanStep(method="tucker2", rank=(64, 16)),
        "last": PlanStep(method="cp", rank=FULL_RANK),
    }
)


def test_a_plan_is_unchanged_by_json(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.text())
    assert dict(Plan.read(path)) == dict(PLAN)
    assert json.loads(PLAN.text())["fc"] == {"method": "tucker2", "rank": [64, 16]}
    assert json.loads(PLAN.text())["last"] == {"method": "cp", "rank": "full"}


def test_an_empty_plan_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(Plan({}).text())
    assert len(Plan.read(path)) == 0


BAD = {
    "a list": ([], "this is a list"),
    "a number as step": ({"a": 3}, "layer 'a': .* is needed, found 3"),
    "no rank": ({"a": {"method": "svd"}}, "layer 'a': .* is needed"),
    "no such method": ({"a": {"method": "qr", "rank": 2}}, "no method 'qr'; there are svd, input-svd"),
    "rank 0": ({"a": {"method": "svd", "rank": 0}}, "a rank of at least 1 .* found 0"),
    "rank true": ({"a": {"method": "svd", "rank": True}}, "found True"),
    "rank 1.5": ({"a": {"method": "svd", "rank": 1.5}}, "found 1.5"),
    "a pair for svd": ({"a": {"method": "svd", "rank": [2, 2]}}, r"needed for svd, found \[2, 2\]"),
    "a triple": ({"a": {"method": "tucker2", "rank": [2, 2, 2]}}, "a pair"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_invalid_plans_raise(data: object, message: str) -> None:
    with pytest.raises(BadPlan, match=message):
        Plan.from_dict(data)


def test_unreadable_files_raise(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{")
    with pytest.raises(BadPlan, match=r"plan\.json: a plan in JSON is needed"):
        Plan.read(path)
    with pytest.raises(BadPlan, match=r"can't be read: No such file"):
        Plan.read(tmp_path / "missing.json")
