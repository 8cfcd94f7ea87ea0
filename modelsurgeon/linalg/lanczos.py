"""Leading eigenvectors of `A A^T` by block Lanczos iteration, stopped at the accuracy asked for.

A block of random columns is multiplied by `A A^T` again and again and every product is made orthogonal to all
before it. The eigenvectors of `A A^T` projected onto this basis (Rayleigh-Ritz) converge to the leading ones.
Narrow blocks reach higher powers with fewer products than the one wide block of the randomized method: a
basis of two to three and a half times the rank is enough.
Sources: Golub and Underwood, 1977; Musco and Musco, 2015, arXiv:1504.05477.
Cost: `4 m n k` operations for a basis of k columns, where the Gram matrix of (m, n) alone takes `m^2 n`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelsurgeon.layers import Array
from modelsurgeon.linalg.backend import HOST, Backend

BLOCKS_PER_RANK = 4  # blocks in a basis of `rank` columns
MIN_BLOCK_WIDTH, MAX_BLOCK_WIDTH = 16, 64  # columns
FIRST_CHECK_RANKS = 1.5  # columns of the basis at the first test for convergence, as a multiple of the rank
BLOCKS_PER_CHECK = 2  # from one test for convergence to the next: each costs an eigen-decomposition
MAX_ORTHOGONALIZATIONS = 4  # of a block: columns that nearly vanish are mostly rounding after the first
MAX_DECAY_RATE = 0.95  # a larger ratio of two gains is an unreliable estimate and is clipped
ROUNDING_FACTOR = 16.0  # rounding in a sum of eigenvalues, in machine epsilons of the trace


def block_width(rank: int) -> int:
    """Number of columns of a block."""
    return min(max(rank // BLOCKS_PER_RANK, MIN_BLOCK_WIDTH), MAX_BLOCK_WIDTH)


def eigenvectors(
    product: Callable[[Any], Any],
    start: Any,  # noqa: ANN401 - an array of the backend
    rank: int,
    *,
    trace: float,
    accuracy: float,
    backend: Backend,
    rng: np.random.Generator,
) -> tuple[Array, Any] | None:
    """The `rank` leading eigenvalues and vectors `(m, rank)` of a positive operator; None if slow.

    product: applies the operator to an (m, b) block. start: the first block, `(m, b)`. trace: the sum of all
    eigenvalues. accuracy: the share by which the error `trace - sum(eigenvalues)` may exceed the least that
    any `rank` vectors leave. None is returned where the basis would have more than m / 2 columns.
    """
    m, b = start.shape
    basis: list[Any] = []
    projected = np.zeros((0, 0), backend.take(start[:0]).dtype)
    sums: list[float] = []
    block = backend.orthonormal(start)
    while len(projected) + b <= max(m // 2, b):
        basis.append(block)
        image, coefficients = _project_out(product(block), basis[-2:], backend)
        image = image + _rounding_noise(projected, coefficients, (m, b), rng, backend)
        projected = _extend_projection(projected, coefficients)
        if len(projected) >= FIRST_CHECK_RANKS * rank and len(basis) % BLOCKS_PER_CHECK == 0:
            sums.append(float(HOST.eigenvalues(projected)[:rank].sum(dtype=np.float64)))
            rounding = ROUNDING_FACTOR * float(np.finfo(projected.dtype).eps) * trace
            if _expected_gain(sums, rounding) <= max(accuracy * (trace - sums[-1]), rounding):
                values, ritz = HOST.top(projected, rank)
                return values, _times_basis(basis, backend.put(ritz))
        block = _next_block(image, basis, backend)
    return None


def _project_out(image: Any, basis: Sequence[Any], backend: Backend) -> tuple[Any, Array]:  # noqa: ANN401
    """The image minus its projections onto the basis, and their coefficients `(basis columns, b)`."""
    parts = []
    for block in basis:
        part = block.T @ image
        image = image - block @ part
        parts.append(backend.take(part))
    return image, np.concatenate(parts)


def _next_block(image: Any, basis: Sequence[Any], backend: Backend) -> Any:  # noqa: ANN401
    """An orthonormal block from the image's columns, orthogonal to the basis; one pass is mostly enough."""
    block = backend.orthonormal(image)
    for _ in range(MAX_ORTHOGONALIZATIONS):
        block, parts = _project_out(block, basis, backend)
        if np.abs(parts).max() ** 2 < np.finfo(parts.dtype).eps:
            break
        block = backend.orthonormal(block)
    return block


def _rounding_noise(
    projected: Array, coefficients: Array, shape: tuple[int, int], rng: np.random.Generator, backend: Backend
) -> Any:  # noqa: ANN401
    """Noise `shape` below rounding, to be added to an image: the next block where the image itself vanishes.

    A low rank or a repeated singular value exhausts the Krylov space of the first block. The next block is
    then a random one orthogonal to all before, instead of an amplified rounding error that may not be.
    """
    scale = np.finfo(coefficients.dtype).eps * max(
        np.abs(coefficients).max(), np.abs(projected).max(initial=0.0)
    )
    noise = rng.random(shape, dtype=np.float32) - np.float32(0.5)
    return backend.put((noise * (scale / np.sqrt(shape[0]))).astype(coefficients.dtype))


def _extend_projection(projected: Array, column: Array) -> Array:
    """The operator projected onto a basis that grew by one block (Rayleigh-Ritz), `(basis, basis)`.

    column: coefficients of the new block's image along the last two blocks. All others are zero: the image
    of a block is in the span of that block, the one before and the one after.
    """
    old, b = len(projected), column.shape[1]
    grown = np.zeros((old + b, old + b), projected.dtype)
    grown[:old, :old] = projected
    grown[-len(column) :, old:] = column
    grown[old:, -len(column) :] = column.T
    grown[old:, old:] = (column[-b:] + column[-b:].T) / 2
    return grown


def _expected_gain(sums: Sequence[float], rounding: float) -> float:
    """Estimate of the further growth of a sum of eigenvalues whose gains shrink at their current rate."""
    if len(sums) < 3:
        return np.inf
    before, gain = sums[-2] - sums[-3], sums[-1] - sums[-2]
    if gain <= rounding:
        return 0.0
    rate = min(gain / before, MAX_DECAY_RATE) if before > 0 else MAX_DECAY_RATE
    return gain * rate / (1 - rate)


def _times_basis(basis: Sequence[Any], ritz: Any) -> Any:  # noqa: ANN401
    """The basis `(m, columns)` times a matrix `(columns, rank)`, one block at a time."""
    b = basis[0].shape[1]
    total = basis[0] @ ritz[:b]
    for index, block in enumerate(basis[1:], 1):
        total += block @ ritz[index * b : (index + 1) * b]
    return total
