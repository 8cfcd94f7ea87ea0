"""Candidates: blocks of ranks, costs that never grow, damages, trials, and notes on the budget."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.compression.candidates import (
    MAX_RANKS_PER_METHOD,
    Resource,
    channel_candidates,
    least_fraction,
    plan_by_budget,
    site_candidates,
    trial_fit_steps,
    trial_steps,
    weighted_by_sensitivity,
)
from modelsurgeon.compression.select import Candidate
from modelsurgeon.errors import Unreachable
from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import computed_part, macs
from modelsurgeon.surgery.site import ChannelProducers
from tests.compression.places import Place
from tests.conv import sizes
from tests.strategies import layers
from tests.zoo import lowish

PRODUCERS = ChannelProducers(layers=("maker",), macs=7.0, params=3.0)


def candidates(site: Place, methods: Sequence[str], resource: Resource, block: int = 16) -> list[Candidate]:
    return site_candidates(site, CalibratedLayer(layer=site.layer), methods, resource, block=block)


@settings(max_examples=40)
@given(
    layer=layers(),
    grow=st.integers(1, 6),
    resource=st.sampled_from(["macs", "params", "milliseconds"]),
    block=st.integers(1, 3),
)
def test_no_candidate_costs_more_macs_than_the_layer(
    layer: Layer, grow: int, resource: Resource, block: int
) -> None:
    """For any geometry: strides let a first factor run at many more positions than the layer."""
    wide = np.tile(layer.weight, (grow, grow, *(1 for _ in layer.kernel)))
    site = Place(Layer(**{**vars(layer), "weight": wide, "bias": None}))
    site.calls, site.producers = [(sizes(layer), 2), (sizes(layer), 1)], PRODUCERS
    dense, *found = candidates(site, list(METHODS), resource, block)
    assert dense.method is None and dense.macs == macs([site.layer], site.calls)
    assert all(c.macs < dense.macs for c in found if c.method != "channels")
    assert all(c.macs <= dense.macs for c in found)
    assert all(c.params < dense.params for c in found if resource == "params")


def test_fewer_params_at_more_macs_is_no_candidate() -> None:
    """With stride 4 a first factor of one tap runs at 16 times the positions of the layer."""
    layer = Layer(weight=lowish(48, 48, 3, 3), stride=(4, 4), padding=((1, 1), (1, 1)))
    site = Place(layer)
    site.calls = [((32, 32), 1)]
    dense, *found = candidates(site, ["tucker2", "input-svd"], "params", 4)
    assert macs(METHODS["input-svd"].sketch(layer, 20), site.calls) > dense.macs
    assert {c.method for c in found} == {"tucker2", "input-svd"}
    assert all(c.macs <= 0.95 * dense.macs for c in found)


@pytest.mark.parametrize(("block", "channels"), [(16, 96), (12, 97), (16, 40), (8, 1000), (1, 30)])
def test_channels_are_kept_in_whole_blocks(block: int, channels: int) -> None:
    site = Place(Layer(weight=lowish(8, channels)))
    site.calls, site.producers = [((), 1)], PRODUCERS
    found = channel_candidates(site, CalibratedLayer(layer=site.layer), block)
    ranks = [c.rank for c in found]
    assert ranks == sorted(set(ranks)) and len(ranks) <= MAX_RANKS_PER_METHOD  # type: ignore[type-var]
    assert all(isinstance(rank, int) and rank % block == 0 and 0 < rank < channels for rank in ranks)
    few = (channels - 1) // block
    assert len(ranks) == few or few > MAX_RANKS_PER_METHOD


def test_one_block_of_channels_is_left_alone() -> None:
    site = Place(Layer(weight=lowish(8, 16)))
    site.calls, site.producers = [((), 1)], PRODUCERS
    assert channel_candidates(site, CalibratedLayer(layer=site.layer), 16) == []


@pytest.mark.parametrize("groups", [1, 4])
def test_a_channel_cut_saves_the_producers_of_every_group(groups: int) -> None:
    layer = Layer(weight=lowish(32, 24, 1, 1), groups=groups)
    site = Place(layer)
    site.calls, site.producers = [((5, 5), 1)], PRODUCERS
    found = channel_candidates(site, CalibratedLayer(layer=layer), 8)
    assert [c.rank for c in found] == [8, 16]
    for c in found:
        chain = computed_part("channels", METHODS["channels"].sketch(layer, c.rank or 1))
        gone = groups * (24 - int(c.rank or 0))  # type: ignore[arg-type]
        assert c.macs == macs(chain, site.calls) - 7 * gone == 25 * 32 * int(c.rank or 0) - 7 * gone  # type: ignore[arg-type]
        assert c.params == chain[0].params - 3 * gone
        assert c.also_changes == ("maker",)


def test_damage_is_the_logarithm_of_the_energy_that_is_lost() -> None:
    """Kept energies multiply over the layers of a model; so damages add up."""
    site = Place(Layer(weight=lowish(64, 64)))
    site.calls, site.producers = [((), 1)], PRODUCERS
    found = candidates(site, ["svd", "channels"], "macs")
    assert {c.method for c in found} == {None, "svd", "channels"}
    for c in found:
        assert c.damage == pytest.approx(-log(1 - c.error**2), rel=1e-9, abs=1e-12)


def test_costs_of_the_layer_have_its_extra_params() -> None:
    site = Place(Layer(weight=lowish(64, 64)))
    site.calls, site.extra_params = [((), 1)], 128
    dense, *found = candidates(site, ["svd"], "params")
    assert dense.params == 64 * 64 + 128 and all(c.params == 128 * int(c.rank or 0) for c in found)  # type: ignore[arg-type]


def test_costs_of_a_shared_input_are_relative_to_its_members() -> None:
    site = Place(Layer(weight=lowish(96, 64)))
    alone = Place(site.layer)
    site.calls = alone.calls = [((), 1)]
    site.members = ("q", "k", "v")
    ours, theirs = (candidates(each, ["svd"], "macs") for each in (site, alone))
    assert (ours[0].macs, ours[0].params, ours[0].also_changes) == (0, 0, ())
    for c, other in zip(ours[1:], theirs[1:], strict=True):
        assert c.macs == other.macs - 96 * 64 and c.params == other.params - 96 * 64
        assert c.damage == pytest.approx(3 * other.damage)
        assert c.also_changes == ("q", "k", "v")


def option(error: float, method: str | None = "svd", rank: int = 1, cost: int = 10) -> Candidate:
    return Candidate(method=method, rank=rank, macs=cost, params=cost, error=error, damage=error**2)


def test_damage_by_sensitivity_is_of_squared_errors() -> None:
    options = {"a": [option(0.0, None), option(0.5)], "b": [option(0.1)], "c": [option(0.2)]}
    found = weighted_by_sensitivity(options, {"a": 3.0, "b": 7.0})
    assert [c.damage for c in found["a"]] == [0.0, pytest.approx(3 * 0.25)]
    assert found["b"][0].damage == pytest.approx(7 * 0.01)
    assert found["c"][0].damage == pytest.approx(3 * 0.04)  # nothing was measured: the smallest weight


def test_a_trial_has_an_error_near_that_of_trials() -> None:
    chains = [option(0.05, rank=9), option(0.28, rank=5), option(0.31, "cp", 4), option(0.6, "cp", 1)]
    steps = trial_steps({"a": [option(0.0, None), *chains], "b": [option(0.0, None)]})
    assert {name: (step.method, step.rank) for name, step in steps.items()} == {"a": ("cp", 4)}
    fits = trial_fit_steps({"a": [option(0.0, None), *chains, option(0.3, "channels", 16)]})
    assert [(step.method, step.rank) for step in fits["a"]] == [("svd", 5), ("cp", 4)]


def test_what_no_candidate_changes_counts_against_the_budget() -> None:
    """The layer is a tenth of the model: cut to half, 95 % of the model are left."""
    options = {"a": [option(0.0, None, cost=100), option(0.5, cost=50)]}
    assert least_fraction(options, 1000, "macs") == pytest.approx(0.95)
    assert list(plan_by_budget(options, 0.95, 1000, "macs").plan) == ["a"]
    assert list(plan_by_budget(options, 1.0, 1000, "macs").plan) == []
    with pytest.raises(Unreachable, match=r"at least 0\.950 of the macs remain"):
        plan_by_budget(options, 0.949, 1000, "macs")


@pytest.mark.parametrize(("cost", "noted"), [(50, True), (73, False), (70, True)])
def test_a_budget_that_is_left_unused_is_noted(cost: int, noted: bool) -> None:
    options = {"a": [option(0.0, None, cost=100), option(0.5, cost=cost)]}
    notes = plan_by_budget(options, 0.8, 100, "macs").notes
    assert len(notes) == noted
    assert all(f"{cost / 100:.3f} of the macs are left where 0.8 was asked for" in note for note in notes)
