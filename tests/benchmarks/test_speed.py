"""How fast the decompositions are beside tensorly and LAPACK at equal error: `make bench` prints the figures.

Each figure is the best of some runs; the gates are wide, because machines differ and are shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorly
from scipy import linalg as lapack
from tensorly.decomposition import parafac, partial_tucker

from modelsurgeon import linalg
from modelsurgeon.factorize import METHODS, als, relative_error
from modelsurgeon.layer import Array, Layer

pytestmark = pytest.mark.slow


def best(run: Callable[[], Any], runs: int = 3) -> tuple[float, Any]:
    """Seconds of the fastest run, and what it gave."""
    seconds, result = float("inf"), None
    for _ in range(runs):
        began = time.perf_counter()
        result = run()
        seconds = min(seconds, time.perf_counter() - began)
    return seconds, result


def kernel(out: int, into: int, *, seed: int = 0) -> Layer:
    """A 3 x 3 convolution whose spectrum falls as that of a trained one does."""
    draw = np.random.default_rng(seed)
    left, right = draw.normal(size=(out, out)), draw.normal(size=(into * 9, out))
    weight = (left / np.sqrt(1 + np.arange(out))) @ right.T / out
    return Layer(weight=weight.reshape(out, into, 3, 3), padding=((1, 1), (1, 1)))


def off(tensor: Array, other: Array) -> float:
    """Relative error."""
    return float(np.linalg.norm(tensor - other) / np.linalg.norm(tensor))


@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(1024, 1024, 128), (3072, 768, 192), (1000, 4096, 128)]
)
def test_a_truncated_svd_beats_the_whole_one(rows: int, columns: int, rank: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    ours, (left, right) = best(lambda: linalg.truncated(matrix, rank))
    theirs, (u, s, v) = best(lambda: lapack.svd(matrix, full_matrices=False))
    errors = off(matrix, left @ right), off(matrix, (u[:, :rank] * s[:rank]) @ v[:rank])
    print(f"\nsvd {rows} x {columns}, rank {rank}: {ours:.3f} s, LAPACK {theirs:.3f} s, errors {errors}")
    assert errors[0] <= 1.002 * errors[1]
    assert ours < theirs


def test_tucker2_beats_tensorly() -> None:
    layer, rank = kernel(256, 256), 96
    tensor = layer.weight.reshape(256, 256, 9)
    ours, chain = best(lambda: METHODS["tucker2"](layer, rank), runs=2)
    theirs, ((core, modes), _) = best(
        lambda: partial_tucker(tensorly.tensor(tensor), rank=[rank, rank], modes=[0, 1]), runs=1
    )
    rebuilt = tensorly.tenalg.multi_mode_dot(core, modes, modes=[0, 1])
    errors = relative_error(layer, chain), off(tensor, rebuilt)
    print(f"\ntucker2 256 x 256 x 3 x 3, rank {rank}: {ours:.2f} s, tensorly {theirs:.2f} s, errors {errors}")
    assert errors[0] <= 1.005 * errors[1]
    assert ours < theirs / 2


def test_cp_beats_tensorly_and_does_not_cancel() -> None:
    layer, rank = kernel(128, 128), 128
    tensor = layer.weight.reshape(128, 128, 9)
    ours, modes = best(lambda: als.decompose(tensor, rank), runs=1)
    theirs, (_, factors) = best(
        lambda: parafac(tensorly.tensor(tensor), rank, n_iter_max=30, init="random", random_state=0, tol=0),
        runs=1,
    )
    errors = off(tensor, als.expand(modes)), off(tensor, tensorly.cp_to_tensor((None, factors)))
    print(
        f"\ncp 128 x 128 x 3 x 3, rank {rank}: {ours:.2f} s, tensorly {theirs:.2f} s, errors {errors}, "
        f"norm ratio {als.norm_ratio(modes):.2f}"
    )
    assert errors[0] <= 1.04 * errors[1]
    assert als.norm_ratio(modes) < 2
    assert ours < theirs
