"""Choice of ranks: break-even, candidates, Pareto front, and ranks for energy, cost share and spectrum."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.factorize import METHODS, Method, relative_error
from modelsurgeon.factorize.rank import (
    RANK_BLOCK,
    Towards,
    aligned,
    break_even,
    candidate_ranks,
    for_energy,
    for_share,
    for_spectrum,
    frontier,
)
from modelsurgeon.layers import Layer, chain_macs, chain_params
from tests.strategies import layers

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@every_method
@given(layer=layers())
def test_break_even_is_the_largest_cheaper_rank(method: Method, layer: Layer) -> None:
    price = partial(chain_macs, size=(9,) * len(layer.kernel))
    most = break_even(method, layer, price)
    whole = price([layer])
    full = method.full_rank(layer)
    assert most == 0 or price(method.sketch(layer, most)) < whole
    top = max(full) if isinstance(full, tuple) else full
    assert most == top or price(method.sketch(layer, most + 1)) >= whole


@every_method
def test_candidates_are_blocks_and_cheaper(method: Method) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(128, 96, 3, 3)))
    ranks = candidate_ranks(method, layer, chain_params)
    assert ranks and all(r % RANK_BLOCK == 0 for r in ranks)
    assert all(chain_params(method.sketch(layer, r)) < layer.params for r in ranks)
    assert chain_params(method.sketch(layer, ranks[-1] + RANK_BLOCK)) >= layer.params


@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.alone], ids=lambda method: method.name
)
@given(seed=st.integers(0, 100), energy=st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_for_energy_is_the_smallest_sufficient_rank(method: Method, seed: int, energy: float) -> None:
    rng = np.random.default_rng(seed)
    decay = 0.5 ** np.arange(8)
    layer = Layer(weight=np.einsum("or,ir,r->oi", rng.normal(size=(10, 8)), rng.normal(size=(12, 8)), decay))
    ranks = range(1, 9)
    rank = for_energy(method, layer, energy, ranks)
    assert isinstance(rank, int)
    kept = {r: 1 - relative_error(layer, method(layer, r)) ** 2 for r in ranks}
    assert kept[rank] >= energy - 1e-9
    assert rank == 1 or kept[rank - 1] < energy


@every_method
def test_for_energy_is_none_if_unreachable(method: Method) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(16, 16, 3, 3)))
    assert for_energy(method, layer, 0.999, [1, 2]) is None
    assert for_energy(method, layer, 0.5, []) is None


@pytest.mark.parametrize(
    ("rank", "towards", "block", "found"),
    [
        (40, "up", 16, 48),
        (40, "down", 16, 32),
        (41, "nearest", 16, 48),
        (39, "nearest", 16, 32),
        (3, "nearest", 16, 16),
        (97, "up", 16, 100),
        (13, "up", 8, 16),
        (13, "nearest", 1, 13),
    ],
)
def test_ranks_round_to_blocks(rank: int, towards: Towards, block: int, found: int) -> None:
    assert aligned(rank, 100, block=block, towards=towards) == found
    assert aligned(rank, 7, block=block, towards=towards) == min(rank, 7)


@every_method
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_for_share_is_the_largest_affordable_rank(method: Method, share: float) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(128, 96, 3, 3)))
    rank = for_share(method, layer, share, chain_params)
    assert rank is not None
    assert chain_params(method.sketch(layer, rank)) <= share * layer.params
    assert chain_params(method.sketch(layer, rank + RANK_BLOCK)) > share * layer.params
    assert for_share(method, layer, 1e-4, chain_params) is None


@given(out=st.sampled_from([5, 40, 64]), into=st.sampled_from([3, 32, 80]), seed=st.integers(0, 99))
def test_frontier_dominates_all_candidates(out: int, into: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    decay = 0.9 ** np.arange(out)[:, None, None, None] * 0.8 ** np.arange(into)[:, None, None]
    layer = Layer(weight=rng.normal(size=(out, into, 3, 3)) * decay, stride=(2, 2), padding=((1, 1), (1, 1)))
    price, method = partial(chain_macs, size=(9, 9)), METHODS["tucker2"]
    found = frontier(method, layer, price, partial(method.error, layer))
    costs = [price(method.sketch(layer, rank)) for rank, _ in found]
    errors = [error for _, error in found]
    assert costs == sorted(costs) and all(cost < price([layer]) for cost in costs)
    assert errors == sorted(set(errors), reverse=True) == method.error(layer, [rank for rank, _ in found])
    for rank in candidate_ranks(method, layer, price):
        cost, [error] = price(method.sketch(layer, rank)), method.error(layer, [rank])
        assert any(c <= cost and e <= error for c, e in zip(costs, errors, strict=True))


def test_up_to_one_block_every_rank_is_tried() -> None:
    assert [aligned(13, full, block=16) for full in (15, 16, 17)] == [13, 13, 16]
    for width, ranks in ((16, list(range(1, 13))), (17, [])):
        layer = Layer(weight=np.ones((width, 50)))
        found = candidate_ranks(METHODS["svd"], layer, chain_params, block=16)
        assert found == (ranks if width == 16 else [])


def test_of_pairs_with_equal_errors_the_cheapest_is_kept() -> None:
    layer = Layer(weight=np.ones((48, 64, 3, 3)))
    price = partial(chain_macs, size=(9, 9))
    flat = frontier(METHODS["tucker2"], layer, price, lambda pairs: [0.5] * len(pairs))
    assert flat == [((16, 16), 0.5)]


def under_noise(rank: int, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise plus a signal of this rank with singular values twice the largest of the noise."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(side, rank)))[0] for side in shape)
    return rng.normal(size=shape) + 2 * sum(np.sqrt(shape)) * left @ right.T


@pytest.mark.parametrize("name", ["svd", "spatial-svd"])
@pytest.mark.parametrize("rank", [3, 20])
def test_for_spectrum_is_the_rank_of_the_signal(name: str, rank: int) -> None:
    layer = Layer(weight=under_noise(rank, (64, 90)))
    assert for_spectrum(METHODS[name], layer, block=1) == rank
    assert for_spectrum(METHODS[name], layer) == 16
    noise = Layer(weight=np.random.default_rng(0).normal(size=(64, 90)))
    assert for_spectrum(METHODS[name], noise) is None


def test_each_tucker2_rank_is_from_its_own_unfolding() -> None:
    rng = np.random.default_rng(0)
    core = rng.normal(size=(6, 11, 9))
    left, right = (np.linalg.qr(rng.normal(size=s))[0] for s in ((40, 6), (50, 11)))
    weight = np.einsum("pqk,op,iq->oik", 9 * core, left, right) + 0.1 * rng.normal(size=(40, 50, 9))
    layer = Layer(weight=weight.reshape(40, 50, 3, 3), padding=((1, 1), (1, 1)))
    assert for_spectrum(METHODS["tucker2"], layer, block=1) == (6, 11)
