"""Variable projection compared with composed weights, finite differences and known solutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelsurgeon.compression.refit.variable_projection import EinsumForm, _Search, fit_by_variable_projection
from modelsurgeon.factorize import METHODS, compose, suited
from modelsurgeon.layers import Layer
from modelsurgeon.linalg.least_squares import LeastSquares, RegressionSums
from tests.strategies import layers

ALONE = [name for name, method in METHODS.items() if method.alone]


@st.composite
def chains(draw: st.DrawFn) -> list[Layer]:
    """Chains with the shapes of a method for a layer without groups, and random weights."""
    layer = draw(layers(ndim=st.integers(1, 3), groups=st.just(1), transposed=st.just(False)))
    method = METHODS[draw(st.sampled_from(suited(layer, ALONE)))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chain = method.sketch(layer, draw(st.integers(1, 3)))
    assume(len(chain) > 1)
    return [replace(link, weight=rng.normal(size=link.weight.shape), bias=None) for link in chain]


def problem_of(chain: list[Layer], rng: np.random.Generator, *, noise: float = 0.3) -> LeastSquares:
    """Least squares with correlated rows; the targets are the chain's outputs plus noise."""
    weight = compose(chain).weight.reshape(chain[-1].out_channels, -1)
    mix = np.eye(weight.shape[1]) + 0.3 * rng.normal(size=(weight.shape[1],) * 2)
    x = rng.normal(size=(500, weight.shape[1])) @ mix
    y = x @ weight.T
    return RegressionSums.of(x, y + noise * rng.normal(size=y.shape)).problem(centred=True)


def loss(chain: list[Layer], rows: LeastSquares, fitted: LeastSquares | None = None) -> float:
    """Loss on `rows` with the bias that is best for the rows `fitted`, by default the same."""
    factor = compose(chain).weight.reshape(chain[-1].out_channels, -1)
    return rows.loss(factor, (fitted or rows).bias(factor))


@given(chains(), st.integers(0, 2**32 - 1))
def test_the_gradient_of_a_factor_is_the_adjoint_of_composing(chain: list[Layer], seed: int) -> None:
    """The weight is linear in each factor: a step p changes it by L p, and <G, L p> = <gradient, p>."""
    rng = np.random.default_rng(seed)
    whole = compose(chain).weight
    slope = rng.normal(size=whole.shape)
    for place, link in enumerate(chain):
        moved = rng.normal(size=link.weight.shape)
        along = compose([*chain[:place], replace(link, weight=moved), *chain[place + 1 :]]).weight
        found = EinsumForm.of(chain).gradient([each.weight for each in chain], slope, place)
        assert np.vdot(found, moved) == pytest.approx(np.vdot(slope, along), rel=1e-6, abs=1e-9)


@given(chains(), st.integers(0, 2**32 - 1))
def test_the_gradient_matches_differences(chain: list[Layer], seed: int) -> None:
    rng = np.random.default_rng(seed)
    search = _Search(chain, problem_of(chain, rng), 1e-2)
    x = search.start * (1 + 0.1 * rng.normal(size=search.start.shape))
    step = rng.normal(size=x.shape) * np.abs(x).mean() * 1e-5
    (low, _), (_, slope), (high, _) = (search(x + t * step) for t in (-1, 0, 1))
    assert (high - low) / 2 == pytest.approx(slope @ step, rel=1e-3, abs=1e-11)


@settings(max_examples=10)  # each runs a search
@given(chains(), st.integers(0, 2**32 - 1))
def test_the_validation_loss_does_not_grow(chain: list[Layer], seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem, checks = problem_of(chain, rng), problem_of(chain, rng)
    began = [replace(link, weight=link.weight + 0.3 * rng.normal(size=link.weight.shape)) for link in chain]
    start = _Search(began, problem.with_variance_floor(), 1e-6)
    first = start.chain(start.start)
    found = fit_by_variable_projection(began, problem, checks, 1e-6)
    assert loss(found, checks, problem) <= loss(first, checks, problem) * (1 + 1e-6) + 1e-9
    assert [link.weight.shape for link in found] == [link.weight.shape for link in chain]


@pytest.mark.parametrize("method", ["cp", "tucker2", "spatial-svd", "input-svd", "cp-separable"])
def test_a_perturbed_chain_is_recovered(method: str) -> None:
    rng = np.random.default_rng(7)
    layer = Layer(weight=rng.normal(size=(8, 6, 3, 3)), padding=((1, 1), (1, 1)))
    chain = METHODS[method](layer, 3)
    problem = problem_of(chain, rng, noise=0.0)
    shaken = [replace(link, weight=link.weight + 0.05 * rng.normal(size=link.weight.shape)) for link in chain]
    last_alone = _Search(shaken, problem, 1e-6).chain(_Search(shaken, problem, 1e-6).start)
    assert loss(fit_by_variable_projection(shaken, problem, problem, 1e-6), problem) < 0.05 * loss(
        last_alone, problem
    )


def test_validation_rows_stop_the_search() -> None:
    """The start fits the validation rows exactly, so that every step raises their loss."""
    rng = np.random.default_rng(3)
    layer = Layer(weight=rng.normal(size=(8, 6, 3, 3)))
    chain = METHODS["cp"](layer, 3)
    other = [replace(link, weight=rng.normal(size=link.weight.shape)) for link in chain]
    problem = problem_of(other, rng)
    search = _Search(chain, problem, 1e-6)
    start = search.chain(search.start)
    found = fit_by_variable_projection(chain, problem, problem_of(start, rng, noise=0.0), 1e-6)
    np.testing.assert_allclose(compose(found).weight, compose(start).weight, rtol=1e-5, atol=1e-6)


def test_nearly_constant_rows_give_bounded_weights() -> None:
    """The covariance of such rows in float32 is rounding error, with negative eigenvalues."""
    rng = np.random.default_rng(3)
    layer = Layer(weight=rng.normal(size=(8, 6, 3, 3)))
    chain = METHODS["cp"](layer, 3)
    rows = (100 + 1e-4 * rng.normal(size=(300, 54))).astype(np.float32)
    problem = RegressionSums.of(rows, rows @ layer.weight.reshape(8, -1).T.astype(np.float32)).problem(
        centred=True
    )
    assert np.linalg.eigvalsh(problem.zz).min() < 0
    found = fit_by_variable_projection(chain, problem, problem, 1e-6)
    assert np.abs(compose(found).weight).max() < 100 * np.abs(layer.weight).max()


def test_less_effort_takes_fewer_steps() -> None:
    rng = np.random.default_rng(7)
    layer = Layer(weight=rng.normal(size=(8, 6, 3, 3)))
    chain = METHODS["tucker2"](layer, 3)
    problem = problem_of(chain, rng, noise=0.0)
    shaken = [replace(link, weight=link.weight + 0.05 * rng.normal(size=link.weight.shape)) for link in chain]
    losses = [
        loss(fit_by_variable_projection(shaken, problem, problem, 1e-6, effort=effort), problem)
        for effort in (0.0, 0.05, 1.0)
    ]
    assert losses[2] < 0.1 * losses[1] < 0.05 * losses[0]
