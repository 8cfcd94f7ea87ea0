"""Truncated SVD compared with numpy's full SVD in float64 (Eckart and Young)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm

from modelsurgeon import linalg
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.linalg import Truncation, cholesky, svd


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On shared cores, synchronization of threads takes longer than the work."""
    with linalg.single_blas_thread(1):
        yield


FORMATS = {"float16": 1e-3, "float32": 1e-6, "float64": 1e-12}


@st.composite
def matrices(draw: st.DrawFn, dtype: str = "float64") -> Array:
    """Any shape; singular values decay geometrically or are equal, with a tail scaled by 0, 1e-6 or 1."""
    m, n = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k = min(m, n)
    values = draw(st.sampled_from([0.1, 0.5, 0.9, 1.0])) ** np.arange(k)
    values[draw(st.integers(1, k)) :] *= draw(st.sampled_from([0.0, 1e-6, 1.0]))
    left, right = np.linalg.qr(rng.normal(size=(m, k)))[0], np.linalg.qr(rng.normal(size=(n, k)))[0]
    return ((left * values) @ right.T).astype(dtype)


def like_trained(m: int, n: int, seed: int = 0) -> Array:
    """A float32 matrix with singular values that decay as in trained layers."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(min(m, n), dtype=np.float32))
    left = rng.standard_normal((m, len(scale)), dtype=np.float32) * scale
    return left @ rng.standard_normal((len(scale), n), dtype=np.float32) / np.float32(np.sqrt(n))


def rebuilt(part: Truncation) -> Array:
    return (part.left.astype(np.float64) * part.sigma) @ part.right.astype(np.float64)


def least(matrix: Array, rank: int) -> float:
    """The smallest relative error of any matrix of this rank."""
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return float(norm(values[rank:]) / norm(values))


@given(matrix=matrices(), rank=st.integers(1, 24))
def test_error_is_least_up_to_the_accuracy(matrix: Array, rank: int) -> None:
    part = svd(matrix, rank)
    off = norm(rebuilt(part) - matrix) / norm(matrix)
    assert off <= (1 + linalg.DEFAULT_ACCURACY) * least(matrix, rank) + 1e-13
    assert abs(part.error - off) <= 1e-6 * off + 1e-13


@pytest.mark.parametrize(("dtype", "allowed"), FORMATS.items(), ids=FORMATS)
@given(data=st.data())
def test_each_dtype_is_accurate_to_its_rounding(dtype: str, allowed: float, data: st.DataObject) -> None:
    matrix = data.draw(matrices(dtype))
    part = svd(matrix, rank := data.draw(st.integers(1, 24)), accuracy=0)
    assert norm(rebuilt(part) - matrix) / norm(matrix.astype(np.float64)) <= least(matrix, rank) + allowed
    if dtype == "float64":
        values = np.linalg.svd(matrix, compute_uv=False)[:rank]
        assert norm(part.sigma - values) <= 1e-12 * values[0]


@given(matrix=matrices(), rank=st.integers(1, 24))
def test_factors_are_orthonormal_with_fixed_signs(matrix: Array, rank: int) -> None:
    part = svd(matrix, rank, accuracy=0)
    here = part.sigma > 1e-12 * part.sigma[0]
    left, right = part.left[:, here], part.right[here]
    gaps = [norm(left.T @ left - np.eye(here.sum())), norm(right @ right.T - np.eye(here.sum()))]
    short, long = gaps if len(matrix) <= len(matrix.T) else gaps[::-1]
    assert short < 1e-10
    assert long < 1e-13 * part.sigma[0] / part.sigma[here].min(initial=part.sigma[0])  # a projection, rounded
    assert (np.diff(part.sigma) <= 0).all()
    peaks = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    assert (peaks > 0).all()


@given(matrix=matrices("float32"), rank=st.integers(1, 8), power=st.sampled_from([-120, -99, 67, 99]))
def test_scaling_scales_only_sigma(matrix: Array, rank: int, power: int) -> None:
    one, two = svd(matrix, rank), svd(np.ldexp(matrix, power), rank)
    assert norm(two.sigma * 2.0**-power - one.sigma) <= 1e-5 * one.sigma[0]
    assert abs(one.error - two.error) <= 1e-5


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 7), (7, 1), (6, 6)])
def test_degenerate_shapes_and_a_zero_weight(shape: tuple[int, int]) -> None:
    part = svd(np.zeros(shape, np.float32), 2)
    rank = min(2, *shape)
    assert part.left.shape == (shape[0], rank) and part.right.shape == (rank, shape[1])
    assert part.error == 0 and not part.sigma.any()
    assert norm(rebuilt(svd(np.ones(shape), 1)) - np.ones(shape)) < 1e-12


def test_bfloat16_is_read() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    matrix = np.random.default_rng(0).normal(size=(9, 7)).astype(bfloat16)
    assert svd(matrix, 3).error == pytest.approx(least(matrix, 3), rel=1e-5)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_inf_are_refused(odd: float, dtype: str) -> None:
    matrix = np.ones((4, 4), dtype)
    matrix[2, 1] = odd
    with pytest.raises(UnsupportedLayer, match="NaN or Inf"):
        svd(matrix, 2)


WIDE = {
    "like a trained layer": like_trained(1024, 1100),
    "lying": like_trained(1040, 4200),
    "standing": like_trained(1100, 1024),
    "noise": np.random.default_rng(1).standard_normal((1024, 1024), dtype=np.float32),
}


@pytest.mark.parametrize("matrix", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("accuracy", [2e-3, 1e-5])
def test_iteration_reaches_the_accuracy(matrix: Array, accuracy: float) -> None:
    part = svd(matrix, 32, accuracy=accuracy)
    assert "Lanczos" in part.way
    gram = (matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix).astype(np.float64)
    values = np.linalg.eigvalsh(gram)[::-1]
    assert part.error <= (1 + accuracy) * np.sqrt(values[32:].sum() / values.sum()) + 1e-6
    assert part.error == pytest.approx(norm(rebuilt(part) - matrix) / norm(matrix), rel=1e-4)
    again = svd(matrix, 32, accuracy=accuracy)
    assert np.array_equal(part.left, again.left) and np.array_equal(part.right, again.right)


def orthogonal(size: int) -> Array:
    return np.linalg.qr(np.random.default_rng(0).standard_normal((size, size), dtype=np.float32))[0]


def test_iteration_with_equal_singular_values() -> None:
    part = svd(orthogonal(1024), 64)
    assert part.error == pytest.approx(np.sqrt(1 - 64 / 1024), rel=1e-4)
    assert norm(part.left.T @ part.left - np.eye(64)) < 1e-3


@pytest.mark.parametrize("true", [1, 20, 70])
def test_iteration_with_a_low_rank(true: int) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(1024, true)) @ rng.normal(size=(true, 1024))).astype(np.float32)
    part = svd(matrix, 64)
    assert part.error <= least(matrix, 64) * 1.01 + 1e-6
    assert norm(rebuilt(part) - matrix) / norm(matrix) <= least(matrix, 64) * 1.01 + 1e-6


def test_float64_is_used_where_float32_is_inexact() -> None:
    values = np.concatenate([np.ones(8), np.full(292, 1e-4)])
    left, right = orthogonal(300).astype(np.float64), orthogonal(300).astype(np.float64).T
    matrix = ((left * values) @ right).astype(np.float32)
    part = svd(matrix, 8)
    assert part.way == "Gram matrix in float64"
    assert part.error == pytest.approx(least(matrix, 8), rel=2e-3)
    assert svd(like_trained(300, 300), 8).way == "Gram matrix in float32"
    assert svd(np.diag(10.0 ** -np.arange(12)), 10).way == "LAPACK"


MEMORY = """
import resource, sys
import numpy as np
from modelsurgeon import linalg
linalg.svd(np.eye(8, dtype=np.float32), 2)
matrix = np.random.default_rng(0).standard_normal((1024, 12544), dtype=np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
linalg.svd(matrix, int(sys.argv[1]), accuracy=0.05)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / matrix.nbytes)
"""


@pytest.mark.parametrize("rank", [32, 300])
def test_peak_memory_of_a_large_matrix(rank: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(rank)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert float(done.stdout) < 2  # times its size, on top of the matrix itself


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_cholesky_refuses_nan_and_inf(odd: float) -> None:
    covariance = np.eye(3)
    covariance[0, 0] = odd
    with pytest.raises(UnsupportedLayer, match="on the data hold NaN or Inf"):
        cholesky(covariance, 1e-4)


def test_cholesky_of_an_indefinite_matrix() -> None:
    covariance = np.diag([1.0, -1e-9])
    root = cholesky(covariance, 1e-12)
    assert norm(root @ root.T - covariance) < 1e-6


@pytest.mark.parametrize("lost", [0, 3])
def test_a_failing_subset_of_eigenvectors_is_computed_with_all(
    monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """LAPACK's evr may raise an error, or return fewer vectors than asked for, on clustered eigenvalues."""
    whole = scipy.linalg.eigh

    def eigh(symmetric: Array, *, driver: str, **options: object) -> tuple[Array, Array]:
        if driver == "evr" and not lost:
            raise scipy.linalg.LinAlgError("internal error")
        values, vectors = whole(symmetric, driver=driver, **options)
        return (values[lost:], vectors[:, lost:]) if driver == "evr" else (values, vectors)

    matrix = like_trained(64, 80)
    expected = svd(matrix, 8)
    monkeypatch.setattr(scipy.linalg, "eigh", eigh)
    found = svd(matrix, 8)
    assert found.left.shape == (64, 8)
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=1e-5)
