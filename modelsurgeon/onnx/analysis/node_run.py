"""A node with the cost of one run and the number of its runs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs import Uncounted


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """A node, the cost of one run, and how often it runs: 0 times in a branch that isn't counted.

    varying: the cost of all runs, where they differ from each other; `cost` is then that of the first.
    """

    node: ir.Node
    cost: Cost | Uncounted
    times: Number
    varying: Cost | None = None

    @property
    def total(self) -> Cost:
        """Cost of all runs; zero where the operator is uncounted."""
        if not isinstance(self.cost, Cost):
            return Cost()
        if self.varying is not None:
            return self.varying
        return self.cost if self.times == 1 else self.cost * self.times
