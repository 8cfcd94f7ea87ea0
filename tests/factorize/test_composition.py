"""Chains that no method makes: those that compose to one layer, and those that don't."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import compose, norm_ratio, relative_error
from modelsurgeon.layers import Layer
from tests.conv import run

RNG = np.random.default_rng(5)


def weight(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


CHAINS = {
    "depthwise, then 1x1": [
        Layer(weight=weight(6, 1, 3, 3), groups=6, padding=((1, 1), (1, 1))),
        Layer(weight=weight(4, 6, 1, 1)),
    ],
    "1x1, then grouped": [
        Layer(weight=weight(6, 4, 1, 1)),
        Layer(weight=weight(4, 3, 3, 3), groups=2, stride=(2, 1)),
    ],
    "4 groups, then 6": [
        Layer(weight=weight(12, 2, 1, 3), groups=4, dilation=(1, 2)),
        Layer(weight=weight(6, 2, 3, 1), groups=6),
    ],
    "a bias before taps that aren't padded": [
        Layer(weight=weight(3, 4, 1, 1), bias=weight(3)),
        Layer(weight=weight(5, 3, 2, 2), bias=weight(5)),
    ],
    "one layer alone": [Layer(weight=weight(3, 4, 2, 2), bias=weight(3))],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_a_chain_equals_its_composed_layer(chain: list[Layer]) -> None:
    x = RNG.normal(size=(chain[0].in_channels, 8, 8))
    np.testing.assert_allclose(run([compose(chain)], x), run(chain, x), atol=1e-12)


NO_LAYER = {
    "nothing": ([], "the chain is empty"),
    "channels that don't meet": (
        [Layer(weight=weight(3, 4)), Layer(weight=weight(2, 5))],
        "channels and kernel axes must match",
    ),
    "two kernels on one axis": (
        [Layer(weight=weight(3, 4, 3)), Layer(weight=weight(2, 3, 3))],
        "both have a kernel, stride or padding on one axis",
    ),
    "a bias before padding": (
        [Layer(weight=weight(3, 4, 1), bias=weight(3)), Layer(weight=weight(2, 3, 3), padding=((1, 1),))],
        "a bias before a padded layer",
    ),
}


@pytest.mark.parametrize(("chain", "message"), NO_LAYER.values(), ids=NO_LAYER)
def test_other_chains_are_refused(chain: list[Layer], message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message):
        compose(chain)


def test_a_relative_error_has_no_unit() -> None:
    """Of a chain that gives 1.1 times the layer's weight it is .1, at any scale."""
    for scale in (1e-3, 1.0, 50.0):
        layer = Layer(weight=scale * weight(5, 4, 3))
        assert relative_error(layer, [replace(layer, weight=1.1 * layer.weight)]) == pytest.approx(0.1)
        assert relative_error(layer, [replace(layer, weight=0 * layer.weight)]) == 1


def test_the_norm_ratio_is_of_the_terms_to_their_sum() -> None:
    """1 for orthogonal terms; (a^2 + b^2) / (a - b)^2 for two that point in opposite directions."""
    first = Layer(weight=np.eye(2))
    assert norm_ratio([first, Layer(weight=np.array([[3.0, 0.0], [0.0, 4.0]]))]) == pytest.approx(1)
    same = Layer(weight=np.array([[1.0], [1.0]]))
    opposed = Layer(weight=np.array([[3.0, -2.0]]))
    assert norm_ratio([same, opposed]) == pytest.approx((9 + 4) / (3 - 2) ** 2)
    assert norm_ratio([same, Layer(weight=np.zeros((1, 2)))]) == 0


@pytest.mark.parametrize("name", ["nothing", "channels that don't meet", "two kernels on one axis"])
def test_errors_and_ratios_refuse_them_too(name: str) -> None:
    chain, message = NO_LAYER[name]
    with pytest.raises(UnsupportedLayer, match=message):
        norm_ratio(chain)
    with pytest.raises(UnsupportedLayer, match=message):
        relative_error(Layer(weight=weight(2, 4)), chain)


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (3, 4, 1), (4, 3)])
def test_the_error_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedLayer, match=r"the chain makes a weight .*, the layer has \(3, 4\)"):
        relative_error(Layer(weight=weight(3, 4)), [Layer(weight=weight(*shape))])


def test_the_error_of_a_zero_weight_is_zero_or_infinite() -> None:
    zero = Layer(weight=np.zeros((3, 4)))
    assert relative_error(zero, [zero]) == 0
    assert relative_error(zero, [Layer(weight=weight(3, 4))]) == np.inf
