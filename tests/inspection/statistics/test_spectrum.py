"""Singular values of weights, ranks for an energy, and condition numbers."""

import numpy as np
import pytest
from hypothesis import given

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.inspection.statistics import spectrum as module
from modelsurgeon.inspection.statistics.spectrum import RANK_ENERGIES, spectrum
from modelsurgeon.layers import Layer
from tests.strategies import layers


def by_numpy(layer: Layer) -> np.ndarray:
    """Singular values of the block-diagonal matrix of all groups."""
    size = layer.out_channels // layer.groups
    blocks = [layer.weight[g * size : (g + 1) * size].reshape(size, -1) for g in range(layer.groups)]
    return np.sort(np.concatenate([np.linalg.svd(b, compute_uv=False) for b in blocks]))[::-1]


@given(layer=layers())
def test_values_are_those_of_the_unfolded_weight(layer: Layer) -> None:
    found, true = spectrum(layer), by_numpy(layer)
    assert np.linalg.norm(found.values - true) <= 1e-7 * true[0]
    assert found.full == len(true)
    assert found.energy == pytest.approx(float((layer.weight**2).sum()), rel=1e-9)
    assert found.norm == pytest.approx(true[0], rel=1e-9)
    assert 1 <= found.stable_rank <= found.full * (1 + 1e-9)


@given(layer=layers())
def test_ranks_are_the_smallest_for_the_energy(layer: Layer) -> None:
    found = spectrum(layer)
    squares = by_numpy(layer) ** 2
    for energy in RANK_ENERGIES:
        rank = found.rank_for(energy)
        assert rank is not None
        assert squares[:rank].sum() >= (energy - 1e-9) * squares.sum()
        assert squares[: rank - 1].sum() < (energy + 1e-9) * squares.sum()


def test_condition_needs_full_rank() -> None:
    weight = np.diag([4.0, 2.0, 1.0])
    found = spectrum(Layer(weight=weight))
    assert (found.rank, found.condition) == (3, pytest.approx(4.0))
    assert found.curve(3) == pytest.approx([1.0, 0.5, 0.25])
    weight[2, 2] = 0
    assert (spectrum(Layer(weight=weight)).rank, spectrum(Layer(weight=weight)).condition) == (2, None)


def test_a_zero_weight_has_rank_0() -> None:
    found = spectrum(Layer(weight=np.zeros((3, 4), np.float32))).as_dict()
    assert (found["norm"], found["rank"], found["stable_rank"], found["condition"]) == (0.0, 0, 0.0, None)
    assert found["ranks"] == {"0.9": 0, "0.95": 0, "0.99": 0}


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_an_empty_weight_has_no_values(shape: tuple[int, int]) -> None:
    assert spectrum(Layer(weight=np.zeros(shape, np.float32))).as_dict()["full_rank"] == 0


def test_large_matrices_have_norm_but_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(60, 50)).astype(np.float32))
    true = by_numpy(layer)
    monkeypatch.setattr(module, "LARGEST_SIDE", 40)
    found = spectrum(layer)
    assert found.norm == pytest.approx(true[0], rel=1e-3)
    assert found.energy == pytest.approx((true.astype(np.float64) ** 2).sum(), rel=1e-5)
    assert (found.whole, found.rank, found.condition, found.curve()) == (False, None, None, [])
    assert found.rank_for(0.9) is None


def test_nan_has_no_spectrum() -> None:
    with pytest.raises(UnsupportedLayer, match="NaN or Inf"):
        spectrum(Layer(weight=np.full((2, 2), np.nan)))
