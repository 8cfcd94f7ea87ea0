"""How far covariances are shrunk: less the more samples there are, and the more rows each has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import InputMoments, Moments
from modelsurgeon.layers import Array, Layer
from modelsurgeon.linalg import VARIANCE_FLOOR
from modelsurgeon.linalg.shrinkage import shrinkage

N = 12
RNG = np.random.default_rng(8)
ROWS = RNG.normal(size=(200, N)) @ RNG.normal(size=(N, N)) + 3.0
COVARIANCE = np.cov(ROWS.T, bias=True)
SECOND = ROWS.T @ ROWS / len(ROWS)


def gram(samples: int, count: int, *, biased: bool = True) -> Array:
    """The second moments that a layer is factorized with; the covariance is the same for any number."""
    moments = Moments(count=count, total=ROWS.mean(axis=0) * count, product=SECOND * count)
    layer = Layer(weight=np.ones((N, N)), bias=np.ones(N) if biased else None)
    inputs = InputMoments(
        channels=(moments,), taps=(), patch=np.zeros((1, N)), response=False, samples=samples
    )
    return CalibratedLayer(layer=layer, inputs=inputs).grams[0]


def shrunk_by(samples: int, count: int) -> float:
    """The share of the mean variance that was added to each variance beside the floor."""
    added = gram(samples, count) - COVARIANCE
    np.testing.assert_allclose(added, added[0, 0] * np.eye(N), atol=1e-9)
    return float(added[0, 0] / (np.trace(COVARIANCE) / N)) - VARIANCE_FLOOR


@given(samples=st.integers(10, 60), each=st.integers(1, 500))
def test_rows_of_one_sample_count_for_more_than_one_and_fewer_than_all(samples: int, each: int) -> None:
    found = shrunk_by(samples, samples * each)
    least, most = shrinkage(COVARIANCE, samples * each), shrinkage(COVARIANCE, samples)
    if each == 1:
        assert found == pytest.approx(most, rel=1e-6)
    else:
        assert 1.05 * least < found < most / 1.05


@given(samples=st.integers(2, 60), count=st.integers(100, 5000))
def test_more_samples_or_more_rows_need_less_shrinkage(samples: int, count: int) -> None:
    assert shrunk_by(2 * samples, count) < 0.8 * shrunk_by(samples, count)
    assert shrunk_by(samples, 2 * count) < 0.8 * shrunk_by(samples, count)


def test_without_a_bias_the_moments_are_about_zero() -> None:
    """The mean has nowhere to go then, and its error counts."""
    many = 10**7
    np.testing.assert_allclose(gram(many, many), COVARIANCE, rtol=2e-3, atol=2e-3 * np.trace(COVARIANCE))
    plain = gram(many, many, biased=False)
    np.testing.assert_allclose(plain, SECOND, rtol=2e-3, atol=2e-3 * np.trace(COVARIANCE))
    assert np.linalg.norm(SECOND - COVARIANCE) > 0.1 * np.linalg.norm(SECOND)
