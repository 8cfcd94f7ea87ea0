"""Latency of candidates, and when a chain is faster than its layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.compression.candidates import site_candidates
from modelsurgeon.compression.latency_model import (
    TIMED_RANKS,
    is_slower,
    likely_faster,
    timed_candidates,
    timed_channel_cuts,
)
from modelsurgeon.factorize import METHODS, suited
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.site import Call, ChannelProducers, LayerTiming
from tests.compression.places import CALL, Place
from tests.zoo import lowish


def conv(out: int = 64, into: int = 48, *kernel: int, **geometry: object) -> Layer:
    kernel = kernel or (3, 3)
    pads = tuple((k // 2, k // 2) for k in kernel)
    return Layer(weight=lowish(out, into, *kernel), padding=pads, **geometry)  # type: ignore[arg-type]


def clock(per_layer: float, per_mac: float, seen: list[int]) -> LayerTiming:
    """A timer for which every layer takes `per_layer` and `per_mac` times its MACs. seen: chains per call."""

    def time(layer: Layer, chains: Sequence[Sequence[Layer]], calls: Sequence[Call]) -> list[float]:
        seen.append(len(chains))
        return [per_layer * len(chain) + per_mac * macs(chain, calls) for chain in [[layer], *chains]]

    return time


def test_interpolated_times_are_exact_where_latency_is_linear() -> None:
    layer, seen = conv(), list[int]()
    site, view = Place(layer), CalibratedLayer(layer=layer)
    found = site_candidates(site, view, list(METHODS), "milliseconds")
    timed = timed_candidates(site, view, found, clock(0.01, 1e-6, seen))
    assert sum(seen) <= TIMED_RANKS * len(suited(layer, METHODS))
    assert timed[0].method is None
    for c in timed:
        links = 1 if c.method is None else len(METHODS[c.method].sketch(layer, 1))
        assert c.milliseconds == pytest.approx(0.01 * links + 1e-6 * c.macs)
        assert c is timed[0] or c.milliseconds < (timed[0].milliseconds or 0)  # type: ignore[operator]


def test_slower_chains_are_no_candidates() -> None:
    layer = conv()
    site, view = Place(layer), CalibratedLayer(layer=layer)
    found = site_candidates(site, view, list(METHODS), "milliseconds")
    assert len(found) > 1
    assert [c.method for c in timed_candidates(site, view, found, clock(1e3, 1e-6, []))] == [None]
    assert timed_candidates(site, view, found, lambda *_: None) == []


@given(share=st.floats(0.02, 1.5))
def test_slower_is_beyond_a_margin(share: float) -> None:
    assert is_slower(1.0, share) == (share > 1.07)
    assert not is_slower(0.01, 0.01 + 0.019 * min(share, 1.0))  # the overhead of a node doesn't count


@pytest.mark.parametrize(
    ("layer", "size", "method", "most"),
    [
        (conv(), (14, 14), "svd", 0.95),
        (conv(), (14, 14), "cp", 0.8),
        (conv(), (112, 112), "cp", 0.7),
        (conv(64, 48, 5), (400,), "cp", 0.5),
        (conv(32, 32, 3, 3, 3), (9, 9, 9), "cp", 0.3),
        (Layer(weight=lowish(64, 64)), (), "svd", 0.95),
    ],
)
def test_break_even_share_of_macs(layer: Layer, size: tuple[int, ...], method: str, most: float) -> None:
    calls = [(size, 1)]
    for rank in range(1, 200):
        chain = METHODS[method].sketch(layer, rank)
        assert likely_faster(layer, chain, calls) == (macs(chain, calls) <= most * macs([layer], calls))


def test_grouped_factors_are_no_depthwise_factors() -> None:
    layer = Layer(weight=np.zeros((64, 8, 3, 3), "f4"), groups=4, padding=((1, 1), (1, 1)))
    chain = METHODS["svd"].sketch(layer, 8)
    assert all(link.groups == 4 for link in chain)
    assert likely_faster(layer, chain, [CALL]) == (macs(chain, [CALL]) <= 0.95 * macs([layer], [CALL]))


def test_channel_cuts_save_time_of_producers() -> None:
    layer = Layer(weight=lowish(64, 96), bias=np.zeros(64, "f4"))
    site, view = Place(layer), CalibratedLayer(layer=layer)
    site.calls, site.producers = [((), 1)], ChannelProducers(layers=("maker",), macs=10.0, params=10.0)
    found = site_candidates(site, view, ["channels"], "milliseconds")
    own = clock(0.0, 1e-6, [])
    whole = {"a": 1e-6 * layer.macs(), "maker": 5.0}
    chosen = timed_channel_cuts(site, view, found, own, whole)
    assert len(chosen) == len(found) - 1 > 0
    for c in chosen:
        assert isinstance(c.rank, int)
        share = c.rank / 96
        assert c.milliseconds == pytest.approx(whole["a"] * share - 5.0 * (1 - share))
    assert not timed_channel_cuts(site, view, found, own, {"a": 1.0})  # its producer has no time
