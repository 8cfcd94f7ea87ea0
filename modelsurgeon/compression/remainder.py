"""What no choice of ranks can take away from a model, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modelsurgeon.compression.select import Candidate
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import NodeCost

MAX_REASONS = 3  # that one message names
MIN_SHARE = 5e-4  # of a part that is named
NO_CHEAPER_CHAIN = "no chain of the methods used is cheaper"
NEVER_CUT = "an operator that is never cut"


@dataclass(kw_only=True)
class _Part:
    """A part of a model that stays: the operators of its nodes, with their common cost and reason."""

    reason: str
    cost: int = 0
    operators: Counter[str] = field(default_factory=Counter)

    def add(self, operator: str, cost: int) -> None:
        """Add a node."""
        self.operators[operator] += 1
        self.cost += cost


def why_remaining(
    resource: Literal["macs", "params"],
    costs: Sequence[NodeCost],
    options: Mapping[str, Sequence[Candidate]],
    skipped: Iterable[FactorizationEdit],
    layers: Collection[str],
) -> str:
    """A clause that names the largest parts of a model that stay as they are; empty where there are none.

    options: the candidates of the layers that can be cut. skipped: edits for the layers that can't. layers:
    the names of all layers; one without candidates and edit has the weight of another layer.
    """
    reasons = {edit.layer: str(edit.skipped) for edit in skipped}
    reasons |= {name: NO_CHEAPER_CHAIN for name, found in options.items() if len(found) == 1}
    parts: dict[str, _Part] = {}
    for cost in costs:
        spent = getattr(cost, resource)
        reason = reasons.get(cost.name, None if cost.name in layers else NEVER_CUT) if spent else None
        if reason is not None:
            parts.setdefault(reason, _Part(reason=reason)).add(cost.operator, spent)
    if not costs:  # of a module: its layers are known by name alone
        for reason in reasons.values():
            parts.setdefault(reason, _Part(reason=reason)).add("layer", 0)
    total = sum(getattr(cost, resource) for cost in costs)
    named = [part for part in parts.values() if not total or part.cost >= MIN_SHARE * total]
    largest = sorted(named, key=lambda part: (-part.cost, -part.operators.total()))
    clauses = [_clause(part, total) for part in largest[:MAX_REASONS]]
    return f"; what stays: {', '.join(clauses)}" if clauses else ""


def _clause(part: _Part, total: int) -> str:
    counted = " and ".join(
        f"{count} {operator}" for operator, count in part.operators.most_common(MAX_REASONS)
    )
    share = f", {part.cost / total:.3f} in all" if total and part.cost else ""
    return f"{counted} ({part.reason}{share})"
