"""The ridge of a fit and its reported errors, compared with least squares on the rows themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelsurgeon.compression.refit.solvers import (
    NO_CHANGE_RIDGE,
    RIDGE_CANDIDATES,
    FitRows,
    fit_all,
    fit_last,
)
from modelsurgeon.factorize import METHODS, compose
from modelsurgeon.layers import Layer
from modelsurgeon.linalg.least_squares import RegressionSums

WIDTH, OUT = 30, 8


def rows_of(
    layer: Layer, count: int, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of very different scales, and the layer's outputs without bias, off by noise and a mean."""
    x = rng.normal(size=(count, WIDTH)) * 0.8 ** np.arange(WIDTH)
    return x, x @ layer.weight.T + 0.5 + noise * rng.normal(size=(count, OUT))


def problem(
    training: int, noise: float, seed: int
) -> tuple[Layer, list[Layer], dict[str, tuple[np.ndarray, np.ndarray]], FitRows]:
    """A layer, a chain in its place, the rows by their use, and their sums."""
    rng = np.random.default_rng(seed)
    layer = Layer(weight=rng.normal(size=(OUT, WIDTH)), bias=rng.normal(size=OUT))
    first, last = METHODS["svd"](layer, OUT)
    start = [first, replace(last, weight=last.weight + 0.02 * rng.normal(size=last.weight.shape))]
    rows = {"training": rows_of(layer, training, noise, rng), "validation": rows_of(layer, 400, 0.1, rng)}
    mixed = {use: RegressionSums.of(x @ first.weight.T, y) for use, (x, y) in rows.items()}
    return layer, start, rows, FitRows.of([mixed["training"]], [mixed["validation"]], training, centred=True)


def ridge_solution(
    z: np.ndarray, y: np.ndarray, start: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and bias by least squares on centred rows, with rows added for the ridge toward the start."""
    centred = z - z.mean(axis=0)
    size = z.shape[1]
    weight = np.sqrt(ridge * len(z) * centred.var(axis=0).mean())
    design = np.vstack([centred, weight * np.eye(size)])
    target = np.vstack([y - y.mean(axis=0), weight * start.T])
    factor = np.linalg.lstsq(design, target, rcond=None)[0].T
    return factor, y.mean(axis=0) - factor @ z.mean(axis=0)


def loss(factor: np.ndarray, bias: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(z @ factor.T + bias - y).sum() / len(z))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("training", "noise"), [(12, 0.3), (40, 1.0), (400, 0.1)])
def test_the_ridge_is_that_of_least_error_on_validation_rows(training: int, noise: float, seed: int) -> None:
    layer, start, rows, sums = problem(training, noise, seed)
    first, last = start
    z, y = {}, {}
    for use, (x, wanted) in rows.items():
        z[use], y[use] = x @ first.weight.T, wanted
    found = {
        ridge: ridge_solution(z["training"], y["training"], last.weight, ridge) for ridge in RIDGE_CANDIDATES
    }
    found[NO_CHANGE_RIDGE] = last.weight, np.zeros(OUT)
    losses = {ridge: loss(*each, z["validation"], y["validation"]) for ridge, each in found.items()}
    best = min(losses, key=lambda ridge: losses[ridge])
    fit = fit_last(layer, start, sums)
    assert fit.ridge == best
    energy = np.square(y["validation"] - y["training"].mean(axis=0)).sum() / 400
    assert fit.error == pytest.approx((losses[best] / energy) ** 0.5, rel=1e-6)
    assert fit.before == pytest.approx((losses[NO_CHANGE_RIDGE] / energy) ** 0.5, rel=1e-6)
    factor, bias = found[best]
    np.testing.assert_allclose(fit.chain[-1].weight, factor, atol=1e-6)
    np.testing.assert_allclose(fit.chain[-1].bias, layer.bias + bias, atol=1e-6)


def test_rows_that_taught_would_choose_another_ridge() -> None:
    """On few noisy rows the smallest ridge has the least error on these rows, and the largest elsewhere."""
    ridges = [fit_last(*take(problem(12, 0.3, seed))).ridge for seed in range(4)]
    assert min(ridges) > RIDGE_CANDIDATES[0]


def take(made: tuple[Layer, list[Layer], object, FitRows]) -> tuple[Layer, list[Layer], FitRows]:
    layer, start, _, sums = made
    return layer, start, sums


@pytest.mark.parametrize("fit", [fit_last, fit_all])
def test_a_fit_that_is_worse_on_validation_rows_is_dropped(fit: object) -> None:
    """The chain is exact on the validation rows; the training rows have other outputs."""
    rng = np.random.default_rng(0)
    layer = Layer(weight=rng.normal(size=(OUT, WIDTH)), bias=rng.normal(size=OUT))
    other = Layer(weight=rng.normal(size=(OUT, WIDTH)))
    chain = METHODS["svd"](layer, OUT)
    x = rng.normal(size=(300, WIDTH))
    seen = x @ chain[0].weight.T if fit is fit_last else x
    sums = [RegressionSums.of(seen, x @ each.weight.T) for each in (other, layer)]
    found = fit(layer, chain, FitRows.of(sums[:1], sums[1:], 300, centred=True))  # type: ignore[operator]
    assert found.ridge == NO_CHANGE_RIDGE
    assert found.chain is chain
    assert found.error == found.before < 1e-5


def test_a_product_that_is_no_better_than_the_chain_leaves_it_as_it_is() -> None:
    """The fitted layer is better than the layer, but of the rank of the chain nothing is better than that."""
    rng = np.random.default_rng(1)
    layer = Layer(weight=rng.normal(size=(OUT, WIDTH)), bias=np.zeros(OUT))
    chain = METHODS["svd"](layer, 3)
    best = compose(chain).weight
    x = rng.normal(size=(300, WIDTH))
    taught = x @ (best + 0.05 * rng.normal(size=best.shape)).T
    sums = [RegressionSums.of(x, y) for y in (taught, x @ best.T)]
    found = fit_all(layer, chain, FitRows.of(sums[:1], sums[1:], 300, centred=True))
    assert (found.chain, found.ridge) == (chain, NO_CHANGE_RIDGE)
    assert found.error == found.before < 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [0.0, 1.0, 0.3, 2.0**30])
@pytest.mark.parametrize("method", ["svd", "channels"])
def test_equal_rows_teach_nothing_but_the_bias(scale: float, method: str) -> None:
    rng = np.random.default_rng(0)
    layer = Layer(weight=rng.normal(size=(OUT, WIDTH)).astype(np.float32))
    x = np.full((11, WIDTH), scale, np.float32)
    sums = RegressionSums.of(x, x @ layer.weight.T)
    chain = METHODS[method](layer, 4)
    fit = fit_all(layer, chain, FitRows.of([sums], [sums], 11, centred=True))
    assert max(np.abs(link.weight).max() for link in fit.chain) < 10
    wanted, found = x[0] @ layer.weight.T, x[0] @ compose(fit.chain).weight.T
    bias = fit.chain[-1].bias
    np.testing.assert_allclose(found + (0 if bias is None else bias), wanted, rtol=1e-4, atol=1e-4 * scale)
