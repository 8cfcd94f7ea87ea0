"""Dead, broken, duplicate and scaled channels of a weight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.inspection.statistics.channels import ChannelFindings, channels
from modelsurgeon.layers import Layer
from tests.strategies import layers


def layer(out: int = 8, into: int = 6, groups: int = 1, dtype: type = np.float32) -> Layer:
    draw = np.random.default_rng(0)
    return Layer(weight=draw.normal(size=(out, into // groups, 3, 3)).astype(dtype), groups=groups)


@given(sound=layers(dtype=np.float32))
def test_random_weights_have_no_findings(sound: Layer) -> None:
    found = channels(sound)
    assert (found.dead, found.dead_inputs, found.broken, found.duplicates) == ((), (), (), ())
    assert (found.outputs, found.inputs) == (sound.out_channels, sound.in_channels)


@given(sound=layers(dtype=np.float64), data=st.data())
def test_planted_defects_are_found(sound: Layer, data: st.DataObject) -> None:
    size = sound.out_channels // sound.groups
    dead = data.draw(st.integers(0, sound.out_channels - 1))
    sound.weight[dead] = 0
    twins = ()
    if size > 2:
        mates = [n for n in range(sound.out_channels) if n // size == dead // size and n != dead]
        twins = tuple(mates[:2])
        sound.weight[twins[1]] = sound.weight[twins[0]]
    found = channels(sound)
    assert found.dead == (dead,)
    assert found.duplicates == ((twins,) if twins else ())
    assert found.spare == (1 if twins else 0)


def test_multiples_are_scaled_not_duplicates() -> None:
    net = layer()
    net.weight[3] = -2.5 * net.weight[1]
    net.weight[6] = net.weight[1]
    net.weight[7] = 0.1 * net.weight[0]
    found = channels(net)
    assert found.duplicates == ((1, 6),)
    assert set(found.scaled) == {(1, 3), (0, 7)}


def test_duplicates_are_within_one_group() -> None:
    net = layer(groups=2)
    net.weight[4:] = net.weight[:4]
    assert channels(net).duplicates == ()
    net.weight[5] = net.weight[4]
    assert channels(net).duplicates == ((4, 5),)


def test_dead_inputs_are_numbered_over_all_groups() -> None:
    net = layer(groups=2)
    net.weight[4:, 1] = 0
    assert channels(net).dead_inputs == (4,)


def test_a_tiny_channel_is_dead() -> None:
    net = layer()
    net.weight[2] = 1e-9
    assert channels(net).dead == (2,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_channels_are_neither_dead_nor_duplicates(value: float) -> None:
    net = layer()
    net.weight[[1, 4]] = value
    found = channels(net)
    assert (found.broken, found.dead, found.duplicates, found.dead_inputs) == ((1, 4), (), (), ())


def test_minus_zero_is_zero() -> None:
    weight = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]], np.float32)
    assert channels(Layer(weight=weight)).duplicates == ((0, 1),)


def test_equal_channels_are_one_set() -> None:
    found = channels(Layer(weight=np.broadcast_to(np.float32(1), (300, 200))))
    assert found.duplicates == (tuple(range(300)),)
    assert found.scaled == ()
    assert ChannelFindings(outputs=300, inputs=200, duplicates=found.duplicates).spare == 299


def scaled_by_brute_force(weight: np.ndarray) -> set[tuple[int, ...]]:
    """Rows that are multiples of each other, from the angles of all pairs."""
    units = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    alike = np.abs(units @ units.T) > 1 - 1e-13
    groups = {tuple(np.flatnonzero(row).tolist()) for row in alike}
    return {group for group in groups if len(group) > 1}


@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.integers(1, 12),
    count=st.integers(2, 60),
    width=st.integers(2, 40),
)
def test_scaled_channels_are_those_of_all_pairs(seed: int, kinds: int, count: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    factors = draw.uniform(0.5, 2, (count, 1)) * draw.choice([-1, 1], (count, 1))
    weight = draw.normal(size=(kinds, width))[draw.integers(0, kinds, count)] * factors
    assert set(channels(Layer(weight=weight)).scaled) == scaled_by_brute_force(weight)


@pytest.mark.parametrize("kinds", [1, 50])
def test_many_rows_that_are_alike_are_compared_with_few(kinds: int) -> None:
    """All pairs of 40,000 rows would take minutes."""
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(kinds, 8))[draw.integers(0, kinds, 40_000)] * draw.uniform(1, 2, (40_000, 1))
    found = channels(Layer(weight=weight))
    assert len(found.scaled) == kinds
    assert sum(map(len, found.scaled)) == 40_000


@pytest.mark.parametrize("distance", [1.5e-6, 3e-6])
def test_many_rows_that_are_almost_alike_are_compared_with_few(distance: float) -> None:
    """Rows that are too far apart to be multiples of each other, but too close for their sketches to tell."""
    draw = np.random.default_rng(0)
    around, offsets = draw.normal(size=32), draw.normal(size=(4000, 32))
    offsets /= np.linalg.norm(offsets, axis=1, keepdims=True) * 2**0.5 / distance
    rows = around / np.linalg.norm(around) + offsets
    assert channels(Layer(weight=rows)).outputs == 4000
