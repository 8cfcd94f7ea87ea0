"""Modules to layers and back, compared with torch's forward and a convolution written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch isn't installed")

import torch
from torch import nn

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer
from modelsurgeon.torch.layers import layer_of, module_of
from tests import conv
from tests.strategies import layers


def even(layer: Layer) -> Layer:
    """The layer with equal padding at both ends, as torch requires."""
    return replace(layer, padding=tuple((min(pair),) * 2 for pair in layer.padding))


def draw_input(layer: Layer) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(layer.in_channels, *conv.sizes(layer)))


def test_a_linear_is_a_layer_without_a_kernel() -> None:
    layer = layer_of(nn.Linear(3, 5))
    assert (layer.kernel, layer.weight.shape, layer.bias is not None) == ((), (5, 3), True)


@given(layers().map(even))
def test_a_layer_as_a_module_computes_the_convolution(layer: Layer) -> None:
    x = draw_input(layer)
    ours = module_of(layer)(torch.tensor(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(ours, conv.run([layer], x), rtol=0, atol=1e-10)


@given(layers().map(even))
def test_the_round_trip_is_exact(layer: Layer) -> None:
    back = layer_of(module_of(layer))
    for name, value in vars(layer).items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)


@given(layers().map(even), st.sampled_from(sorted(METHODS)))
def test_a_full_rank_chain_of_modules_equals_the_module(layer: Layer, method: str) -> None:
    try:
        chain = METHODS[method](layer, METHODS[method].full_rank(layer))
    except UnsupportedLayer:
        return
    x = torch.tensor(draw_input(layer))[None]
    want = module_of(layer)(x)
    got = nn.Sequential(*map(module_of, chain))(x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_by_name(dilation: int) -> None:
    same = nn.Conv2d(2, 2, (3, 5), padding="same", dilation=dilation)
    assert layer_of(same).padding == ((dilation, dilation), (2 * dilation, 2 * dilation))
    assert layer_of(nn.Conv2d(2, 2, (3, 5), padding="valid")).padding == ((0, 0), (0, 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    module = nn.Conv1d(2, 3, 3, dtype=dtype)
    layer = layer_of(module)
    assert layer.weight.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    again = module_of(layer, module)
    assert again.weight.dtype == again.bias.dtype == dtype
    assert torch.equal(again.weight, module.weight)
    assert torch.equal(again.bias, module.bias)


def test_a_layer_is_a_copy_and_so_is_a_module() -> None:
    module = nn.Linear(2, 2)
    layer = layer_of(module)
    before = layer.weight.copy()
    again = module_of(layer)
    with torch.no_grad():
        module.weight.add_(1)
        again.weight.add_(1)
    np.testing.assert_array_equal(layer.weight, before)


def test_a_new_module_draws_no_random_numbers() -> None:
    layer = layer_of(nn.Conv2d(2, 2, 3))
    state = torch.get_rng_state()
    module_of(layer)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"padding": ((1, 0),)}, "uneven or negative"),
        ({"padding": ((-1, -1),)}, "uneven or negative"),
        (
            {"weight": np.ones((2, 2, 1, 1, 1, 1)), "padding": (), "stride": (), "dilation": ()},
            "no module for kernel",
        ),
    ],
)
def test_layers_without_a_module(change: dict[str, object], reason: str) -> None:
    layer = Layer(weight=np.ones((2, 2, 3)))
    fields = {"output_padding": ()} | change
    with pytest.raises(UnsupportedLayer, match=reason):
        module_of(replace(layer, **fields))


def test_a_module_that_is_no_layer() -> None:
    with pytest.raises(UnsupportedLayer, match="ReLU is none of torch's Linear"):
        layer_of(nn.ReLU())
