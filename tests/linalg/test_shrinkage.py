"""Shrunk covariances compared with the true ones."""

from __future__ import annotations

import numpy as np
import pytest

from modelsurgeon.linalg.shrinkage import effective_rows, shrinkage


def test_shrinkage_improves_the_covariance() -> None:
    """The shrunk covariance is nearer to the true one than the sample's; many rows need little shrinkage."""
    rng = np.random.default_rng(3)
    scales = 0.9 ** np.arange(40)
    truth = np.diag(scales**2)
    for rows in (10, 40, 4000):
        x = rng.normal(size=(rows, 40)) * scales
        seen = x.T @ x / rows
        share = shrinkage(seen, rows) / (1 + shrinkage(seen, rows))
        shrunk = (1 - share) * seen + share * np.eye(40) * np.trace(seen) / 40
        assert np.linalg.norm(shrunk - truth) < np.linalg.norm(seen - truth)
    assert shrinkage(seen, 4000) < 0.02 < 0.3 < shrinkage(np.cov(rng.normal(size=(40, 10))), 10)
    assert shrinkage(np.eye(3), 10) == shrinkage(np.eye(1), 10) == 0


@pytest.mark.parametrize(("samples", "rows", "least", "most"), [(9, 9, 9, 9), (9, 900, 9, 900), (9, 3, 9, 9)])
def test_rows_of_one_sample_count_for_less(samples: int, rows: int, least: float, most: float) -> None:
    assert least <= effective_rows(samples, rows) <= most
    if least < most:
        assert least < effective_rows(samples, rows) < most / 2
