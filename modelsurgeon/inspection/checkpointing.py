"""Activation checkpointing: which activations to keep, so that training needs the least memory.

A net can be cut where a single activation connects all that comes before to all that comes after. The
activations at the chosen cuts are kept; those between two cuts are recomputed when the backward pass gets
there. So memory holds the kept activations and those of one segment. On a chain of n equal layers that takes
2 sqrt(n) activations instead of n (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"); on a
real net the best choice is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class CutPoint:
    """A point where the net can be cut. size: bytes of the activation that crosses it.

    before: bytes that the backward pass needs of all that comes before it. own: those of these bytes that
    belong to the crossing activation itself.
    """

    size: int
    before: int
    own: int


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The chosen cuts by index, with bytes of the activations kept there and of the largest segment."""

    chosen: tuple[int, ...]
    kept: int
    largest: int

    @property
    def total(self) -> int:
        """Peak bytes."""
        return self.kept + self.largest


def segments(cuts: Sequence[CutPoint], total: int) -> Segments:
    """The choice of cuts with the least `kept + largest`.

    cuts: in the order of the net, each with an activation of its own. total: bytes that the backward pass
    needs of the whole net. For a bound on the largest segment, the least bytes to keep are a shortest path;
    the bound is lowered as long as the sum can still fall.
    """
    best = Segments(chosen=(), kept=0, largest=total)
    bound = total - 1
    while (found := _fewest_kept(cuts, total, bound)) is not None:
        best = min(best, found, key=lambda one: one.total)
        bound = min(found.largest, best.total - found.kept) - 1
    return best


def _fewest_kept(cuts: Sequence[CutPoint], total: int, bound: int) -> Segments | None:
    """The choice that keeps the fewest bytes with no segment above `bound`; None where there is none."""
    nodes = [CutPoint(size=0, before=0, own=0), *cuts, CutPoint(size=0, before=total, own=0)]
    cheapest: list[tuple[int, int]] = []  # a heap: bytes kept up to a node, and the node
    previous = [0] * len(nodes)
    kept = 0
    for index, node in enumerate(nodes):
        # The bytes of a segment only grow with its length, so a start that is too far now stays too far.
        while cheapest and _segment_bytes(nodes[cheapest[0][1]], node) > bound:
            heappop(cheapest)
        if index and not cheapest:
            return None
        before, previous[index] = cheapest[0] if index else (0, 0)
        kept = before + node.size
        heappush(cheapest, (kept, index))
    path = [len(nodes) - 1]
    while path[-1]:
        path.append(previous[path[-1]])
    steps = path[::-1]
    largest = max(_segment_bytes(nodes[a], nodes[b]) for a, b in pairwise(steps))
    return Segments(chosen=tuple(index - 1 for index in steps[1:-1]), kept=kept, largest=largest)


def _segment_bytes(start: CutPoint, end: CutPoint) -> int:
    """Bytes of a segment without the activations at its ends, which are kept."""
    return end.before - start.before - end.own
