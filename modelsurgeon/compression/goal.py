"""What may be asked of a whole net."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelsurgeon.surgery.plan import Plan

EVBMF = "evbmf"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is asked of the whole net; exactly one is given.

    rank: wherever it pays; a number, `"evbmf"` for what each layer's spectrum suggests, or a share such as
    `"50%"` for the largest rank at which a layer costs that share of its MACs. energy: share kept in each
    layer. macs, params: fraction of the original's. max_error: relative L2 at the worst output. speedup:
    measured on this machine. plan: as it says.
    """

    rank: int | str | None = None
    energy: float | None = None
    macs: float | None = None
    params: float | None = None
    max_error: float | None = None
    speedup: float | None = None
    plan: Plan | None = None

    def __post_init__(self) -> None:
        """Refuse no goal, two goals, and numbers out of range."""
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"one of {', '.join(vars(self))} is needed, found {' and '.join(given) or 'none'}"
            )
        if self.rank is not None:
            check_rank(self.rank)
        for name in ("energy", "macs", "params"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} {value}: a fraction above 0, at most 1, is needed")
        if self.max_error is not None and self.max_error <= 0:
            raise ValueError(f"max_error {self.max_error}: a number above 0 is needed")
        if self.speedup is not None and self.speedup <= 1:
            raise ValueError(f"speedup {self.speedup}: a number above 1 is needed")


def check_rank(rank: int | str) -> None:
    """Refuse what is neither a whole number of at least 1, nor `evbmf`, nor a share such as `50%`."""
    if isinstance(rank, str):
        if rank != EVBMF and not 0 < share(rank) < 1:
            raise ValueError(f"rank {rank!r}: a whole number, {EVBMF!r} or a share such as '50%' is needed")
    elif rank < 1:
        raise ValueError(f"rank {rank}: at least 1 is needed")


def share(rank: str) -> float:
    """`"50%"` as 0.5; 0 for what is no share."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", rank)
    return float(found[1]) / 100 if found else 0.0
