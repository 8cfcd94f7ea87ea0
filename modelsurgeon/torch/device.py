"""A linear algebra backend that factorizes large matrices with torch, on a GPU for example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelsurgeon import linalg
from modelsurgeon.errors import Unavailable
from modelsurgeon.layers import Array

MIN_DEVICE_ENTRIES = 2**20  # entries below which moving a matrix takes longer than factorizing it in numpy


class TorchBackend:
    """A `linalg.Backend` on a torch device. least: entries of a matrix below which numpy is used."""

    def __init__(self, device: str, least: int = MIN_DEVICE_ENTRIES) -> None:
        """Use the device that torch names `device`, such as "cuda" or "cuda:1"."""
        self.device = torch.device(device)
        self.least = least

    def put(self, array: Array) -> Tensor:
        """A numpy array on the device, in its own dtype."""
        return torch.tensor(array, device=self.device)

    def take(self, array: Tensor) -> Array:
        """A tensor of the device as a numpy array."""
        return np.asarray(array.cpu().numpy())

    def double(self, array: Tensor) -> Tensor:
        """The same numbers in float64."""
        return array.double()

    def orthonormal(self, columns: Tensor) -> Tensor:
        """Q of the Householder QR of `columns`: an orthonormal basis."""
        basis: Tensor = torch.linalg.qr(columns)[0]
        return basis

    def top(self, symmetric: Tensor, rank: int) -> tuple[Array, Tensor]:
        """The `rank` largest eigenvalues, largest first, and their eigenvectors as columns.

        torch has no partial eigendecomposition: all are computed.
        """
        values, vectors = torch.linalg.eigh(symmetric)
        return self.take(values.flip(0)[:rank]), vectors.flip(1)[:, :rank]

    def eigenvalues(self, symmetric: Tensor) -> Array:
        """All eigenvalues, largest first."""
        return self.take(torch.linalg.eigvalsh(symmetric).flip(0))


@contextmanager
def on(device: str) -> Iterator[None]:
    """Context in which large matrices are factorized on `device`, with float32 products instead of TF32.

    Raises Unavailable where torch can't compute on the device.
    """
    backend = TorchBackend(_checked_device(device))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with linalg.use_backend(backend):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _checked_device(device: str) -> str:
    """Return the device if torch multiplies matrices on it; raises Unavailable where it doesn't."""
    try:
        ones: Any = torch.ones((2, 2), device=device)
        if float((ones @ ones).sum()) == 8:
            return device
        reason = "it multiplies wrongly"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
    raise Unavailable(
        f"torch {torch.__version__} can't work on {device} here ({reason}): install a torch that can, "
        "or use --device cpu"
    )
