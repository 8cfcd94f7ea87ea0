from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.factorize import METHODS, Method, relative_error
from modelsurgeon.layer import Layer, chain_macs, chain_params
from modelsurgeon.rank import BLOCK, break_even, for_energy, ladder
from tests.strategies import layers

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@every_method
@given(layer=layers())
def test_break_even_is_the_last_rank_that_costs_less(method: Method, layer: Layer) -> None:
    price = partial(chain_macs, size=(9,) * len(layer.kernel))
    most = break_even(method, layer, price)
    whole = price([layer])
    full = method.full_rank(layer)
    assert most == 0 or price(method.sketch(layer, most)) < whole
    top = max(full) if isinstance(full, tuple) else full
    assert most == top or price(method.sketch(layer, most + 1)) >= whole


@every_method
def test_the_ladder_is_of_blocks_and_pays(method: Method) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(128, 96, 3, 3)))
    ranks = ladder(method, layer, chain_params)
    assert ranks and all(r % BLOCK == 0 for r in ranks)
    assert all(chain_params(method.sketch(layer, r)) < layer.params for r in ranks)
    assert chain_params(method.sketch(layer, ranks[-1] + BLOCK)) >= layer.params


@every_method
@given(seed=st.integers(0, 100), energy=st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_the_rank_for_an_energy_keeps_it_and_none_below_does(
    method: Method, seed: int, energy: float
) -> None:
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
def test_no_rank_keeps_more_than_the_last_does(method: Method) -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(16, 16, 3, 3)))
    assert for_energy(method, layer, 0.999, [1, 2]) is None
    assert for_energy(method, layer, 0.5, []) is None
