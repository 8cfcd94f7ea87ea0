"""The search for the budget that gives a speedup."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import modelsurgeon as ms
from modelsurgeon.compression.speedup import CLOSE_TIME_SHARE, MAX_SEARCH_STEPS, BudgetPoint, secant_search
from modelsurgeon.errors import Unreachable
from tests.zoo import lowish, model


@given(
    least=st.floats(0.05, 0.6),
    curve=st.floats(0.5, 2.0),
    rest=st.floats(0.0, 0.3),
    allowed=st.floats(0.1, 0.95),
)
def test_the_budget_is_found_in_a_few_steps(least: float, curve: float, rest: float, allowed: float) -> None:
    """Latency is non-linear in the budget and has a constant part."""

    def taken(budget: float) -> float:
        return rest + (1 - rest) * budget**curve

    assume(taken(least) < CLOSE_TIME_SHARE * allowed)
    seen: list[float] = []

    def measured(budget: float) -> float:
        seen.append(budget)
        return taken(budget)

    start = BudgetPoint(budget=least, taken=taken(least), choice=least)
    found = secant_search(start, allowed, choose=lambda budget: budget, taken=measured)
    assert len(seen) <= MAX_SEARCH_STEPS
    assert taken(found) <= allowed
    assert taken(found) >= 0.85 * allowed
    assert all(least <= budget <= 1 for budget in seen)


def test_a_start_at_the_goal_is_returned() -> None:
    start = BudgetPoint(budget=0.3, taken=0.5, choice="as it is")
    assert secant_search(start, 0.5, choose=lambda _: "another", taken=lambda _: 1.0) == "as it is"


def test_a_speedup_budget_gives_faster_layers() -> None:
    """Replaced layers are timed and faster, and the tables show it. Benchmarks check the speedup."""
    net = model(
        """g (float[1, 64, 32, 32] x) => (float[1, 64, 32, 32] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, one)
            b = Relu (a)
            y = Conv <pads = [1, 1, 1, 1]> (b, two)
        }""",
        one=lowish(64, 64, 3, 3),
        two=lowish(64, 64, 3, 3),
    )
    result = ms.compress(net, speedup=1.5, method="spatial-svd")
    done = [edit for edit in result.edits if edit.skipped is None]
    assert done
    for edit in done:
        assert edit.milliseconds_after is not None and edit.milliseconds_before is not None
        assert edit.milliseconds_after < edit.milliseconds_before
    shown = "".join(table.text(140) for table in result.tables())
    assert "ms before" in shown and "latency, one thread" in shown
    assert result.latency is not None
    assert result.latency["before"]["threads"] == 1
    with pytest.raises(
        Unreachable, match=r"the quickest choice of ranks is .* times as fast, 1000 was asked"
    ):
        ms.compress(net, speedup=1000)


def test_a_net_without_layers_has_no_speedup() -> None:
    net = model("g (float[2, 8] x) => (float[2, 8] y) { y = Relu (x) }")
    with pytest.raises(Unreachable, match="no layer here can be timed and replaced"):
        ms.compress(net, speedup=1.5)
