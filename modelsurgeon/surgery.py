"""The loop of every edit, once: what stands at a site, and what a plan puts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from modelsurgeon.layer import Layer
from modelsurgeon.plan import Rank


class Site(Protocol):
    """The whole port of a framework: a place where a linear layer stands."""

    @property
    def name(self) -> str:
        """The layer's name, as `info` prints it."""

    @property
    def layer(self) -> Layer:
        """The layer as it stands there now; its weight is read when asked for."""

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial input size, one number per kernel axis; where the model leaves it open, a stated default."""

    @property
    def positions(self) -> int:
        """How often the layer is applied: batch size times leading axes times the nodes that share it."""

    def replace(self, chain: Sequence[Layer]) -> None:
        """Put the layers of `chain`, in order, where the one layer stood."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What became of one layer. `skipped` is the reason why it was left alone."""

    layer: str
    action: str = "factorize"
    method: str | None = None
    rank: Rank | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    params_before: int | None = None
    params_after: int | None = None
    error: float | None = None
    skipped: str | None = None
