"""Patches compared with a convolution written out."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.layers import Layer
from modelsurgeon.layers.patches import channels_at, draw_positions, output_positions, patches_at
from tests import conv
from tests.strategies import layers


@given(layer=layers(ndim=st.integers(1, 3), transposed=st.just(False)), seed=st.integers(0, 99))
def test_patches_times_weights_are_outputs(layer: Layer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, layer.in_channels, *conv.sizes(layer)))
    at = draw_positions(output_positions(layer, x), 6, 2, rng)
    rows = patches_at(layer, x, at)
    parts = zip(np.split(rows, layer.groups, axis=1), np.split(layer.weight, layer.groups), strict=True)
    ours = np.concatenate([part @ w.reshape(len(w), -1).T for part, w in parts], axis=1)
    bias = 0.0 if layer.bias is None else layer.bias
    whole = np.stack([conv.run([layer], each) for each in x]).reshape(2, layer.out_channels, -1)[:, :, at]
    np.testing.assert_allclose(ours + bias, whole.transpose(0, 2, 1).reshape(ours.shape), atol=1e-12)


def test_dense_patches_are_the_input() -> None:
    layer, x = Layer(weight=np.ones((3, 4))), np.arange(8.0).reshape(2, 4)
    assert output_positions(layer, x) == 1
    assert patches_at(layer, x, np.array([0])) is x


def test_channels_at_positions() -> None:
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    rows = channels_at(x, np.array([1, 7]))
    assert rows.tolist() == [x[n, :, i, j].tolist() for n in (0, 1) for i, j in ((0, 1), (1, 2))]


@pytest.mark.parametrize(
    ("places", "wanted", "samples", "count"), [(9, 4, 2, 2), (9, 99, 2, 9), (1, 5, 0, 1)]
)
def test_number_of_drawn_positions(places: int, wanted: int, samples: int, count: int) -> None:
    found = draw_positions(places, wanted, samples, np.random.default_rng(0))
    assert len(set(found)) == count and prod(found.shape) == count and max(found) < places
