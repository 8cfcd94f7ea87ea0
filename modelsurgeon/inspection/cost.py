"""Cost in operations: MACs and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# An int, or a sympy expression where a dimension is symbolic; both add and multiply.
Number = Any


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Operations of a node, a layer or a whole net. Costs add up.

    macs: multiply-accumulates, one multiply and one add each. bias_adds: additions of a bias inside such an
    operator. other: every other operation (normalization, non-linearity, pooling), one per element and step.
    """

    macs: Number = 0
    bias_adds: Number = 0
    other: Number = 0

    @property
    def flops(self) -> Number:
        """2 * MACs + the rest."""
        return 2 * self.macs + self.bias_adds + self.other

    def __add__(self, more: Cost) -> Cost:
        """The cost of both."""
        return Cost(
            macs=self.macs + more.macs,
            bias_adds=self.bias_adds + more.bias_adds,
            other=self.other + more.other,
        )

    def __mul__(self, times: Number) -> Cost:
        """The cost of running it `times` times."""
        return Cost(macs=self.macs * times, bias_adds=self.bias_adds * times, other=self.other * times)
