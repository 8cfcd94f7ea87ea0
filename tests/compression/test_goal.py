"""Goals at the ends of their ranges, and what each layer gets from one that holds for it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelsurgeon.compression.goal import Goal, parse_share
from modelsurgeon.compression.layerwise import plan_by_energy, plan_by_rank
from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.plan import PlanStep
from tests.compression.places import Place
from tests.zoo import lowish

SITE = Place(Layer(weight=lowish(64, 48, 3, 3), padding=((1, 1), (1, 1))))
NAMES = ["svd", "spatial-svd", "tucker2", "input-svd"]
ORDERS = [NAMES[start:] + NAMES[:start] for start in range(len(NAMES))]


def cost(step: PlanStep) -> int:
    return macs(METHODS[step.method].sketch(SITE.layer, step.rank), SITE.calls)


@pytest.mark.parametrize(
    "goal",
    [
        *({"macs": 1}, {"params": 1.0}, {"energy": 1}, {"energy": 1e-9}, {"rank": 1}, {"rank": "99.5%"}),
        *({"max_error": 1e-12}, {"max_error": 7.0}, {"speedup": 1.001}, {"rank": "evbmf"}),
    ],
)
def test_goals_at_the_end_of_their_range(goal: dict[str, Any]) -> None:
    assert {name: value for name, value in vars(Goal(**goal)).items() if value is not None} == goal


@pytest.mark.parametrize(
    "goal",
    [
        *({"macs": 0}, {"params": 1.001}, {"energy": -0.1}, {"max_error": 0}, {"speedup": 1}, {"rank": 0}),
        *({"rank": "0%"}, {"rank": "100%"}, {"rank": "50"}, {"rank": "-5%"}),
        *({name: float("nan")} for name in ("macs", "params", "energy", "max_error", "speedup")),
    ],
)
def test_goals_out_of_range_raise(goal: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is needed"):
        Goal(**goal)


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("12.5%", 0.125), ("5%", 0.05), ("half", 0.0)])
def test_a_share_is_in_hundredths(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


def test_the_cheapest_method_that_keeps_the_energy_is_taken() -> None:
    least = [cost(plan_by_energy([SITE], 0.9, [name], block=4).plan["a"]) for name in NAMES]
    for names in ORDERS:
        assert cost(plan_by_energy([SITE], 0.9, names, block=4).plan["a"]) == min(least)
    assert len(set(least)) > 1


def test_the_method_of_least_error_at_a_share_is_taken() -> None:
    steps = [plan_by_rank([SITE], "50%", [name], block=4).plan["a"] for name in NAMES]
    errors = [METHODS[step.method].error(SITE.layer, [step.rank])[0] for step in steps]
    assert len(set(errors)) > 1
    assert all(0.4 < cost(step) / macs([SITE.layer], SITE.calls) <= 0.5 for step in steps)
    for names in ORDERS:
        assert plan_by_rank([SITE], "50%", names, block=4).plan["a"] == steps[int(np.argmin(errors))]


def test_a_rank_that_saves_nothing_is_skipped() -> None:
    """At rank 4 of an 8 x 8 matrix the two factors cost as much as the matrix."""
    site = Place(Layer(weight=lowish(8, 8)))
    site.calls = [((), 1)]
    assert plan_by_rank([site], 3, ["svd"]).plan["a"] == PlanStep(method="svd", rank=3)
    found = plan_by_rank([site], 4, ["svd"])
    assert not found.plan
    assert found.skipped[0].skipped == "rank 4 costs no less than the layer; what pays: svd up to 3"
