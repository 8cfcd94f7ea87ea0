"""CP by alternating least squares: the error of the start, the sweeps, and the correction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.factorize import METHODS, cp_als, cp_tensor, norm_ratio
from modelsurgeon.layers import Layer

RNG = np.random.default_rng(11)
SHAPES = [(12, 10, 9), (10, 12, 3, 3), (1, 1, 5), (7, 1, 4), (3, 8, 2, 3, 2)]


def decaying(*shape: int, seed: int = 0) -> np.ndarray:
    """A tensor with decaying spectra, as in trained kernels."""
    draw = np.random.default_rng(seed)
    tensor = draw.normal(size=shape)
    for mode, n in enumerate(shape):
        mix = draw.normal(size=(n, n)) / (1 + np.arange(n))
        tensor = np.moveaxis(np.tensordot(tensor, mix, (mode, 1)), -1, mode)
    return tensor


def off(tensor: np.ndarray, modes: cp_tensor.Modes) -> float:
    return float(np.linalg.norm(tensor - cp_tensor.expand(modes)) / np.linalg.norm(tensor))


@pytest.mark.parametrize("shape", SHAPES)
def test_factors_have_the_shape_of_their_modes_and_are_balanced(shape: tuple[int, ...]) -> None:
    modes = cp_als.decompose(decaying(*shape), 2)
    rank = min(2, cp_tensor.exact_rank(shape))
    assert [mode.shape for mode in modes] == [(n, rank) for n in shape]
    if rank < cp_tensor.exact_rank(shape):
        norms = [np.linalg.norm(mode, axis=0) for mode in modes]
        np.testing.assert_allclose(norms, np.broadcast_to(norms[0], (len(shape), rank)), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_rank_is_exact(shape: tuple[int, ...]) -> None:
    tensor = decaying(*shape)
    assert off(tensor, cp_als.decompose(tensor, cp_tensor.exact_rank(shape))) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_the_start_has_the_error_of_the_tail_and_sweeps_lower_it(shape: tuple[int, ...]) -> None:
    tensor = decaying(*shape)
    ranks = [r for r in (1, 3, 6, 12) if r < cp_tensor.exact_rank(shape)]
    for rank, promised in zip(ranks, cp_tensor.orthogonal_terms(tensor, 1).errors(ranks), strict=True):
        assert off(tensor, cp_als.decompose(tensor, rank, sweeps=0, restarts=0)) == pytest.approx(promised)
        # The ridge raises the squared error by RIDGE at most.
        assert off(tensor, cp_als.decompose(tensor, rank)) ** 2 <= promised**2 + cp_als.RIDGE


def test_the_start_has_orthogonal_terms() -> None:
    modes = cp_als.decompose(decaying(12, 10, 3, 3), 20, sweeps=0, restarts=0)
    assert cp_tensor.norm_ratio(modes) == pytest.approx(1.0)


def test_a_sum_of_few_terms_is_recovered() -> None:
    modes = tuple(RNG.normal(size=(n, 3)) for n in (20, 15, 9))
    tensor = cp_tensor.expand(modes)
    assert off(tensor, cp_als.decompose(tensor, 3)) < 0.03
    assert cp_tensor.orthogonal_terms(tensor, 1).errors([3])[0] > 0.1


def cancelling(size: int = 12, rank: int = 4) -> tuple[np.ndarray, cp_tensor.Modes]:
    """Terms that nearly cancel in pairs, and a tensor close to their sum."""
    base = [RNG.normal(size=(n, rank)) for n in (size, size, 9)]
    near = [mode + 0.2 * RNG.normal(size=mode.shape) for mode in base]
    modes = tuple(np.concatenate(pair, axis=1) for pair in zip(base, near, strict=True))
    modes = (modes[0] * np.repeat([1.0, -1.0], rank), *modes[1:])
    whole = cp_tensor.expand(modes)
    return whole + 0.05 * np.linalg.norm(whole) * RNG.normal(size=whole.shape) / whole.size**0.5, modes


def test_correction_lowers_norms_at_equal_error() -> None:
    tensor, modes = cancelling()
    better = cp_als.corrected(tensor, modes, ratio=1.0)
    assert cp_tensor.norm_ratio(modes) > 4
    assert cp_tensor.norm_ratio(better) < 0.7 * cp_tensor.norm_ratio(modes)
    assert off(tensor, better) <= off(tensor, modes) * (1 + 1e-6)


def test_terms_that_do_not_cancel_are_unchanged() -> None:
    tensor = decaying(8, 8, 9)
    modes = cp_als.decompose(tensor, 4)
    assert cp_als.corrected(tensor, modes) is modes


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.integers(2, 40))
def test_the_norm_ratio_is_bounded(seed: int, rank: int) -> None:
    tensor = decaying(12, 10, 9, seed=seed)
    assert cp_tensor.norm_ratio(cp_als.decompose(tensor, rank)) <= cp_als.MAX_NORM_RATIO + 0.1


def test_same_seed_same_factors_and_restarts_help() -> None:
    tensor = decaying(9, 9, 9)
    once, again = cp_als.decompose(tensor, 6, seed=1), cp_als.decompose(tensor, 6, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))

    def loss(restarts: int) -> float:
        modes = cp_als.decompose(tensor, 6, restarts=restarts)
        cp_tensor = np.prod([np.square(mode).sum(axis=0) for mode in modes], axis=0).sum()
        return float(off(tensor, modes) ** 2 + cp_als.RIDGE * cp_tensor / np.square(tensor).sum())

    assert loss(4) <= loss(0) + 1e-12


@pytest.mark.parametrize("name", ["svd", "input-svd", "spatial-svd", "tucker2"])
def test_chains_of_singular_vectors_do_not_cancel(name: str) -> None:
    assert norm_ratio(METHODS[name](Layer(weight=decaying(12, 10, 3, 3)), 6)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["cp", "cp-separable"])
def test_the_norm_ratio_of_a_chain_is_that_of_its_terms(name: str) -> None:
    first, *taps, last = METHODS[name](Layer(weight=decaying(12, 10, 3, 3)), 6)
    modes = [last.weight.reshape(12, 6), *(link.weight.reshape(6, -1).T for link in (first, *taps))]
    assert norm_ratio([first, *taps, last]) == pytest.approx(cp_tensor.norm_ratio(tuple(modes)))


def test_a_chain_of_zeros_has_no_norm_ratio() -> None:
    assert norm_ratio(METHODS["cp"](Layer(weight=np.zeros((4, 4, 3, 3))), 2)) == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("shape", "rank"), [((7, 4, 2, 2, 2), 16), ((7, 6, 2, 2, 2), 24), ((6, 5, 3), 2)])
@pytest.mark.parametrize("value", [3e38, 1.0, 1e-38])
def test_terms_that_vanish_overflow_nothing(shape: tuple[int, ...], rank: int, value: float) -> None:
    tensor = np.full(shape, value, np.float32)
    modes = tuple(mode.astype(np.float64) for mode in cp_als.decompose(tensor, rank))
    assert off(tensor.astype(np.float64), modes) < 0.05
