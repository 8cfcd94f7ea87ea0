"""Leading eigenvectors of `A A^T` by block Lanczos iteration, stopped at the accuracy asked for.

A block of random columns is multiplied by `A A^T` again and again, every product is made orthogonal to all
before it, and the eigenvectors of `A A^T` as seen through this basis (Rayleigh-Ritz) converge to the leading
ones. Narrow blocks reach higher powers with fewer products than the one wide block of the randomised method:
a basis of two to three and a half times the rank is enough.
Sources: Golub and Underwood, 1977; Musco and Musco, 2015, arXiv:1504.05477.
Cost: `4 m n k` operations for a basis of k columns, where the Gram matrix of (m, n) alone takes `m^2 n`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelsurgeon.layers import Array
from modelsurgeon.linalg.backend import HOST, Backend

BASIS_BLOCKS = 4  # in a basis of `rank` columns
MIN_BLOCK_WIDTH, MAX_BLOCK_WIDTH = 16, 64  # a block has no fewer columns, and no more
FIRST_CHECK = 1.5  # ranks of columns before convergence is looked at
CHECK_EVERY = 2  # blocks from one look to the next: a look costs an eigen-decomposition
MAX_ORTHOGONALIZATIONS = (
    4  # where columns nearly vanish, what is left of them is mostly rounding, and has to be cleaned again
)
SLOWEST_DECAY = 0.95  # a rate of convergence above it tells nothing
ROUNDING_FACTOR = 16.0  # units in which a sum of eigenvalues may be off


def block_width(rank: int) -> int:
    """Columns of a block."""
    return min(max(rank // BASIS_BLOCKS, MIN_BLOCK_WIDTH), MAX_BLOCK_WIDTH)


def eigenvectors(
    product: Callable[[Any], Any],
    start: Any,  # noqa: ANN401 - an array of the backend
    rank: int,
    *,
    square: float,
    accuracy: float,
    backend: Backend,
    draw: np.random.Generator,
) -> tuple[Array, Any] | None:
    """The `rank` leading eigenvalues and vectors `(m, rank)` of a positive operator; None if it is slow.

    product: applies the operator to an (m, b) block. start: the first block. square: the operator's trace,
    the energy that all its eigenvalues hold. accuracy: by what share the error `square - sum(eigenvalues)`
    may exceed the least that any `rank` vectors leave. Slow is a basis of more than half of all vectors.
    """
    m, b = start.shape
    basis: list[Any] = []
    seen = np.zeros((0, 0), backend.take(start[:0]).dtype)
    kept: list[float] = []
    block = backend.orthonormal(start)
    while len(seen) + b <= max(m // 2, b):
        basis.append(block)
        image, near = _deflated(product(block), basis[-2:], backend)
        image = image + _rounding_noise(seen, near, (m, b), draw, backend)
        seen = _bordered(seen, near)
        if len(seen) >= FIRST_CHECK * rank and len(basis) % CHECK_EVERY == 0:
            kept.append(float(HOST.eigenvalues(seen)[:rank].sum(dtype=np.float64)))
            rounding = ROUNDING_FACTOR * float(np.finfo(seen.dtype).eps) * square
            if _expected_gain(kept, rounding) <= max(accuracy * (square - kept[-1]), rounding):
                values, mix = HOST.top(seen, rank)
                return values, _combined(basis, backend.put(mix))
        block = _next_block(image, basis, backend)
    return None


def _deflated(image: Any, basis: Sequence[Any], backend: Backend) -> tuple[Any, Array]:  # noqa: ANN401
    """The image without its parts along the basis, and their coefficients `(basis columns, b)`."""
    parts = []
    for block in basis:
        part = block.T @ image
        image = image - block @ part
        parts.append(backend.take(part))
    return image, np.concatenate(parts)


def _next_block(image: Any, basis: Sequence[Any], backend: Backend) -> Any:  # noqa: ANN401
    """An orthonormal block from the image's columns, orthogonal to the basis; mostly one pass is enough."""
    block = backend.orthonormal(image)
    for _ in range(MAX_ORTHOGONALIZATIONS):
        block, parts = _deflated(block, basis, backend)
        if np.abs(parts).max() ** 2 < np.finfo(parts.dtype).eps:
            break
        block = backend.orthonormal(block)
    return block


def _rounding_noise(
    seen: Array, near: Array, shape: tuple[int, int], draw: np.random.Generator, backend: Backend
) -> Any:  # noqa: ANN401
    """Noise below rounding: it becomes the next block where the matrix has nothing new to give.

    A low rank or a repeated singular value exhausts the space of the first block; what follows then is a
    fresh random block, orthogonal to all before, instead of an amplified rounding error that may not be.
    """
    scale = np.finfo(near.dtype).eps * max(np.abs(near).max(), np.abs(seen).max(initial=0.0))
    noise = draw.random(shape, dtype=np.float32) - np.float32(0.5)
    return backend.put((noise * (scale / np.sqrt(shape[0]))).astype(near.dtype))


def _bordered(seen: Array, column: Array) -> Array:
    """The operator as seen through a basis that grew by a block: what that is mapped to, in its last rows.

    The rows above are zeros: the image of every block lies in that block, the one before and the one after.
    """
    old, b = len(seen), column.shape[1]
    grown = np.zeros((old + b, old + b), seen.dtype)
    grown[:old, :old] = seen
    grown[-len(column) :, old:] = column
    grown[old:, -len(column) :] = column.T
    grown[old:, old:] = (column[-b:] + column[-b:].T) / 2
    return grown


def _expected_gain(kept: Sequence[float], rounding: float) -> float:
    """What the sum of the leading eigenvalues will still gain, if its gains go on shrinking at their rate."""
    if len(kept) < 3:
        return np.inf
    before, gain = kept[-2] - kept[-3], kept[-1] - kept[-2]
    if gain <= rounding:
        return 0.0
    rate = min(gain / before, SLOWEST_DECAY) if before > 0 else SLOWEST_DECAY
    return gain * rate / (1 - rate)


def _combined(basis: Sequence[Any], mix: Any) -> Any:  # noqa: ANN401
    """The basis times a matrix, a block at a time."""
    b = basis[0].shape[1]
    total = basis[0] @ mix[:b]
    for index, block in enumerate(basis[1:], 1):
        total += block @ mix[index * b : (index + 1) * b]
    return total
