"""Latency of standalone chains; equal chains at equal sizes are timed once."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.factorize import METHODS, suited
from modelsurgeon.layers import Layer
from modelsurgeon.layers.random_weights import normal_noise, with_random_weights
from modelsurgeon.onnx import run
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.run.latency_cache import cache_for
from modelsurgeon.onnx.run.layer_latency import LayerTimer, chain_key, standalone
from modelsurgeon.surgery.apply import macs
from tests.strategies import layers

SIZE = 9


@settings(max_examples=25)
@given(layer=layers(), rank=st.integers(1, 3), positions=st.integers(1, 3))
def test_a_standalone_chain_has_the_macs_of_the_chain(layer: Layer, rank: int, positions: int) -> None:
    size = (SIZE,) * len(layer.kernel)
    call = size, positions
    layer = replace(layer, weight=layer.weight.astype("f4"), bias=None)
    for name in suited(layer, METHODS):
        chain = METHODS[name].sketch(layer, rank)
        model = standalone(chain, call)
        assert analyze(model).totals.macs == macs(chain, [call])
        x = np.ones((positions, layer.in_channels, *size), np.float32)
        [y] = run.runner(model, threads=1)({"x": x}).values()
        expected = layer.out_size(size) if layer.kernel else ()
        assert y.shape == (positions, layer.out_channels, *expected)


def conv(**geometry: object) -> Layer:
    return Layer(weight=np.zeros((16, 16, 3, 3), "f4"), padding=((1, 1), (1, 1)), **geometry)  # type: ignore[arg-type]


def test_times_are_of_the_layer_and_of_each_chain_over_all_calls() -> None:
    layer, clock = conv(), LayerTimer("cpu")
    chains = [METHODS["svd"].sketch(layer, rank) for rank in (2, 8)]
    once, twice = (clock(layer, chains, [((8, 8), 1)] * times) for times in (1, 2))
    assert once is not None and twice is not None
    assert len(once) == 3 and min(once) > 0
    assert twice == [2 * ms for ms in once]


def test_equal_layers_are_timed_once() -> None:
    layer, call = conv(dilation=(2, 2)), ((12, 12), 1)
    chain = METHODS["svd"].sketch(layer, 3)
    first = LayerTimer("cpu")(layer, [chain], [call])
    assert chain_key(chain, call) in cache_for("cpu", 1)
    fresh = conv(dilation=(2, 2))
    assert LayerTimer("cpu")(fresh, [METHODS["svd"].sketch(fresh, 3)], [call]) == first


def test_the_key_has_all_that_a_time_depends_on() -> None:
    base = chain_key([conv()], ((8, 8), 1))
    others = [
        chain_key([conv()], ((8, 9), 1)),
        chain_key([conv()], ((8, 8), 2)),
        chain_key([conv(stride=(2, 1))], ((8, 8), 1)),
        chain_key([conv(bias=np.zeros(16, "f4"))], ((8, 8), 1)),
        chain_key([Layer(weight=np.zeros((16, 16, 3, 3), "f2"), padding=((1, 1), (1, 1)))], ((8, 8), 1)),
        chain_key([conv(), conv()], ((8, 8), 1)),
    ]
    assert len({base, *others}) == 7


def test_chains_that_cannot_run_have_no_time() -> None:
    misfit = [conv(), Layer(weight=np.zeros((4, 5, 1, 1), "f4"))]
    assert LayerTimer("cpu")(conv(), [misfit], [((8, 8), 1)]) is None
    assert LayerTimer("cpu")(Layer(weight=np.zeros((4, 4), "f4"), groups=2), [], [((), 1)]) is None


@given(layer=layers())
def test_chains_with_random_weights_keep_shapes_and_scale(layer: Layer) -> None:
    [link] = with_random_weights([layer])
    assert (link.weight.shape, link.weight.dtype) == (layer.weight.shape, layer.weight.dtype)
    assert link.bias is layer.bias
    assert float(np.abs(link.weight).max()) < 6 / prod(layer.weight.shape[1:]) ** 0.5


def test_noise_is_the_same_every_time() -> None:
    assert np.array_equal(normal_noise((70, 80), np.dtype("f4")), normal_noise((70, 80), np.dtype("f4")))
    assert abs(float(normal_noise((70, 80), np.dtype("f4")).std()) - 1) < 0.05
