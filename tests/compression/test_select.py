"""Selection of candidates under a budget."""

from __future__ import annotations

from dataclasses import replace
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


@st.composite
def overlapping(draw: st.DrawFn) -> dict[str, list[Candidate]]:
    """Nets in which candidates of some layers change others, too; their costs may be negative."""
    names = "abcde"[: draw(st.integers(2, 5))]
    net = {name: [dense(100), cut(draw(st.integers(1, 99)), draw(st.floats(0.001, 1)))] for name in names}
    for name in names:
        others = [other for other in names if other != name]
        for changed in draw(st.lists(st.lists(st.sampled_from(others), min_size=1, unique=True), max_size=2)):
            net[name].append(
                Candidate(
                    method="channels",
                    rank=1,
                    macs=draw(st.integers(-100 * len(changed), 60)),
                    params=0,
                    damage=draw(st.floats(0.001, 1)),
                    also_changes=tuple(changed),
                )
            )
    return net


@given(net=overlapping(), share=st.floats(0.05, 1.1))
def test_what_a_candidate_changes_is_changed_by_nothing_else(
    net: dict[str, list[Candidate]], share: float
) -> None:
    budget = share * 100 * len(net)
    if sum(c.macs for c in cheapest(net, lambda c: c.macs).values()) > budget:
        return
    chosen = select(net, budget, lambda c: c.macs)
    assert sum(c.macs for c in chosen.values()) <= budget
    changed = [name for name, c in chosen.items() if c.method is not None]
    changed += [name for c in chosen.values() for name in c.also_changes]
    assert len(changed) == len(set(changed))


def test_a_cut_layer_is_not_narrowed_by_an_upgrade() -> None:
    """The narrower input of `b` would cost 10 more and lose less, but `a`, which it narrows, is cut."""
    thin = Candidate(method="channels", rank=1, macs=20, params=0, damage=0.4, also_changes=("a",))
    net = {"a": [dense(100), cut(20, 0.01)], "b": [dense(100), cut(10, 0.5), thin]}
    assert [c.method for c in select(net, 45, lambda c: c.macs).values()] == ["svd", "svd"]
    assert select(net, 120, lambda c: c.macs)["b"].method is None


def test_what_is_left_is_spent_where_it_saves_most_damage_per_cost() -> None:
    """The middle candidates are off the convex hull, so that the Lagrangian misses them."""
    net = {
        "a": [dense(100), cut(50, 0.5), cut(75, 0.3)],
        "b": [dense(100), cut(50, 0.5), cut(60, 0.45)],
    }
    cost = {budget: select(net, budget, lambda c: c.macs) for budget in (124, 125, 134, 135)}
    assert [[c.macs for c in choice.values()] for choice in cost.values()] == [
        [50, 60],
        [75, 50],
        [75, 50],
        [75, 60],
    ]
    net["b"][2] = cut(60, 0.35)
    assert [c.macs for c in select(net, 125, lambda c: c.macs).values()] == [50, 60]


def test_a_joint_cut_is_chosen_where_it_costs_less_than_the_single_ones() -> None:
    """It is compared with what it replaces: the cuts of all layers that it changes."""
    joint = Candidate(method="svd", rank=1, macs=-160, params=0, damage=0.2, also_changes=("a", "b"))
    net = {"a": [dense(100), cut(20, 0.1)], "b": [dense(100), cut(20, 0.2)]}
    for single, damage in (("svd", 0.35), (None, 0.25)):
        both = {**net, "ab": [Candidate(macs=0, params=0), replace(joint, damage=damage)]}
        chosen = select(both, 40, lambda c: c.macs)
        assert [c.method for c in chosen.values()] == [single, single, "svd" if single is None else None]


def test_a_choice_may_cost_as_much_as_the_budget() -> None:
    joint = Candidate(method="svd", rank=1, macs=-160, params=0, damage=0.25, also_changes=("a", "b"))
    net = {name: [dense(100), cut(20, 0.15), cut(10, 0.9)] for name in "ab"}
    chosen = select({**net, "ab": [Candidate(macs=0, params=0), joint]}, 40, lambda c: c.macs)
    assert chosen["ab"] is joint
