"""Selection of candidates under a budget."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.compression.select import Candidate, cheapest, select
from modelsurgeon.errors import Unreachable


def dense(cost: int) -> Candidate:
    return Candidate(macs=cost, params=cost)


def cut(cost: int, damage: float) -> Candidate:
    return Candidate(method="svd", rank=1, macs=cost, params=cost, damage=damage)


nets = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.builds(cut, st.integers(1, 99), st.floats(0.001, 1)), max_size=4).map(
        lambda c: [dense(100), *c]
    ),
    min_size=1,
)


@given(net=nets, share=st.floats(0.05, 1))
def test_the_choice_is_within_budget_and_near_the_best(net: dict[str, list[Candidate]], share: float) -> None:
    budget = share * 100 * len(net)
    costs = {sum(c.macs for c in choice): choice for choice in product(*net.values())}
    if min(costs) > budget:
        with pytest.raises(Unreachable, match="the cheapest choice costs"):
            select(net, budget, lambda c: c.macs)
        return
    chosen = select(net, budget, lambda c: c.macs)
    assert sum(c.macs for c in chosen.values()) <= budget
    best = min(
        sum(c.damage for c in choice)
        for choice in product(*net.values())
        if sum(c.macs for c in choice) <= budget
    )
    # The Lagrangian with a greedy end is above the optimum by at most the damage of one layer.
    worst = max(c.damage for options in net.values() for c in options)
    assert sum(c.damage for c in chosen.values()) <= best + worst + 1e-9


def test_a_full_budget_changes_nothing() -> None:
    net = {"a": [dense(10), cut(5, 0.1)], "b": [dense(20), cut(5, 0.1)]}
    assert all(c.method is None for c in select(net, 30, lambda c: c.macs).values())


def test_the_least_damage_is_chosen() -> None:
    net = {"a": [dense(10), cut(5, 0.9)], "b": [dense(10), cut(5, 0.1)]}
    chosen = select(net, 15, lambda c: c.macs)
    assert (chosen["a"].method, chosen["b"].method) == (None, "svd")


def test_a_layer_narrowed_by_a_channel_cut_is_not_cut_itself() -> None:
    thin = Candidate(method="channels", rank=1, macs=-40, params=0, damage=0.3, also_changes=("a",))
    net = {"a": [dense(100), cut(60, 0.2)], "b": [dense(50), cut(40, 0.2), thin]}
    cost = {budget: select(net, budget, lambda c: c.macs) for budget in (150, 105, 60)}
    assert [c.method for c in cost[150].values()] == [None, None]
    assert [c.method for c in cost[60].values()] == [None, "channels"]
    for choice in cost.values():
        assert choice["b"].method != "channels" or choice["a"].method is None
    assert cheapest(net, lambda c: c.macs)["b"] is thin


def test_no_layer_is_changed_by_two_candidates() -> None:
    """Two layers are cut jointly, so a channel cut of a third must not narrow one of them."""
    joint = Candidate(method="svd", rank=1, macs=-150, params=0, damage=0.01, also_changes=("a", "b"))
    thin = Candidate(method="channels", rank=1, macs=40, params=0, damage=0.1, also_changes=("b",))
    net = {
        "a": [dense(100)],
        "b": [dense(100)],
        "c": [dense(100), cut(10, 0.2), thin],
        "ab": [Candidate(macs=0, params=0), joint],
    }
    choice = select(net, 95, lambda c: c.macs)
    assert choice["ab"] is joint and choice["c"].method == "svd"
