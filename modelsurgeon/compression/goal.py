"""The goal of a compression: one number, or a plan, for the whole model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelsurgeon.errors import BadArgument
from modelsurgeon.surgery.plan import Plan

EVBMF = "evbmf"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The goal for the whole model; exactly one field is given.

    rank: the rank of every layer whose chain then costs less; a number of at least 1, `"evbmf"` for the rank
    that each layer's spectrum suggests, or a share such as `"50%"` for the largest rank at which a layer
    costs that share of its MACs. energy: share of each weight's squared norm to keep, above 0 and at most 1.
    macs, params: fraction of the original's to keep, above 0 and at most 1. max_error: largest relative L2
    error of an output, above 0. speedup: original latency / new latency, above 1, measured on this machine.
    plan: the method and rank of each layer.

    Raises BadArgument where none or several are given, and for a number out of range.
    """

    rank: int | str | None = None
    energy: float | None = None
    macs: float | None = None
    params: float | None = None
    max_error: float | None = None
    speedup: float | None = None
    plan: Plan | None = None

    def __post_init__(self) -> None:
        """Raise BadArgument for no goal, several goals, and numbers out of range."""
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            raise BadArgument(
                f"one of {', '.join(vars(self))} is needed, found {' and '.join(given) or 'none'}"
            )
        if self.rank is not None:
            check_rank(self.rank)
        for name in ("energy", "macs", "params"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise BadArgument(f"{name} {value}: a fraction above 0, at most 1, is needed")
        if self.max_error is not None and not self.max_error > 0:  # NaN is out of range, too
            raise BadArgument(f"max_error {self.max_error}: a number above 0 is needed")
        if self.speedup is not None and not self.speedup > 1:
            raise BadArgument(f"speedup {self.speedup}: a number above 1 is needed")


def check_rank(rank: int | str) -> None:
    """Raise BadArgument unless the rank is at least 1, `evbmf` or a share such as `50%`."""
    if isinstance(rank, str):
        if rank != EVBMF and not 0 < parse_share(rank) < 1:
            raise BadArgument(f"rank {rank!r}: a whole number, {EVBMF!r} or a share such as '50%' is needed")
    elif rank < 1:
        raise BadArgument(f"rank {rank}: at least 1 is needed")


def parse_share(rank: str) -> float:
    """The share that a text such as `"50%"` states, here 0.5; 0 where the text states none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", rank)
    return float(found[1]) / 100 if found else 0.0
