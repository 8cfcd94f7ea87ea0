"""Large matrices on a GPU: torch's spelling of the few things that our linear algebra asks of a backend."""

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

MIN_DEVICE_ENTRIES = 2**20  # entries below which sending a matrix takes longer than working on it here


class TorchBackend:
    """A `linalg.Backend` on a torch device. least: entries below which numpy goes on."""

    def __init__(self, device: str, least: int = MIN_DEVICE_ENTRIES) -> None:
        """device: as torch names it."""
        self.device = torch.device(device)
        self.least = least

    def put(self, array: Array) -> Tensor:
        """A numpy array on the device, in its own dtype."""
        return torch.tensor(array, device=self.device)

    def take(self, array: Tensor) -> Array:
        """An array of the device as a numpy array."""
        return np.asarray(array.cpu().numpy())

    def double(self, array: Tensor) -> Tensor:
        """The same numbers in float64."""
        return array.double()

    def orthonormal(self, columns: Tensor) -> Tensor:
        """Q of a Householder QR."""
        basis: Tensor = torch.linalg.qr(columns)[0]
        return basis

    def top(self, symmetric: Tensor, rank: int) -> tuple[Array, Tensor]:
        """The last columns of a whole eigen-decomposition: torch has no partial one."""
        values, vectors = torch.linalg.eigh(symmetric)
        return self.take(values.flip(0)[:rank]), vectors.flip(1)[:, :rank]

    def eigenvalues(self, symmetric: Tensor) -> Array:
        """All eigenvalues, largest first."""
        return self.take(torch.linalg.eigvalsh(symmetric).flip(0))


@contextmanager
def on(device: str) -> Iterator[None]:
    """Large matrices are factorized on `device` while this lasts, in whole float32 products, not TF32."""
    backend = TorchBackend(_working(device))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with linalg.on(backend):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _working(device: str) -> str:
    """The device, if a matrix can be multiplied there."""
    try:
        here: Any = torch.ones((2, 2), device=device)
        if float((here @ here).sum()) == 8:
            return device
        reason = "it multiplies wrongly"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
    raise Unavailable(
        f"torch {torch.__version__} can't work on {device} here ({reason}): install a torch that can, "
        "or use --device cpu"
    )
