"""Where to keep activations, and recompute the rest, so that training needs the least memory.

A net is cut where one activation leads from what comes before to what comes after. Its activations are kept
at some of the cuts, and those between two of them are computed again when the backward pass gets there: at
any time there are the kept ones and those of one segment. On an even chain of n layers that takes
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
    """A place to cut. size: bytes of the activation that crosses it.

    before: bytes that the backward pass needs of all that comes before it. own: bytes of these that are the
    crossing activation itself.
    """

    size: int
    before: int
    own: int


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The cuts that are chosen, by index; bytes of the activations kept there, and of the largest segment."""

    chosen: tuple[int, ...]
    kept: int
    largest: int

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        return self.kept + self.largest


def segments(cuts: Sequence[CutPoint], total: int) -> Segments:
    """The choice with the least `kept + largest`; total: bytes that the backward pass needs of the whole net.

    The cuts stand in the order of the net, each with an activation of its own. For a bound on the largest
    segment, the least that has to be kept is a shortest path; the bound is lowered as long as that can pay.
    """
    best = Segments(chosen=(), kept=0, largest=total)
    bound = total - 1
    while (found := _bounded(cuts, total, bound)) is not None:
        best = min(best, found, key=lambda one: one.total)
        bound = min(found.largest, best.total - found.kept) - 1
    return best


def _bounded(cuts: Sequence[CutPoint], total: int, bound: int) -> Segments | None:
    """The choice that keeps least while no segment needs more than `bound`; None where there is none."""
    nodes = [CutPoint(size=0, before=0, own=0), *cuts, CutPoint(size=0, before=total, own=0)]
    cheapest: list[tuple[int, int]] = []  # a heap: bytes kept up to a node, and the node
    came_from = [0] * len(nodes)
    kept = 0
    for place, node in enumerate(nodes):
        # What a segment needs only grows with its length, so a start that is too far now stays too far.
        while cheapest and _needs(nodes[cheapest[0][1]], node) > bound:
            heappop(cheapest)
        if place and not cheapest:
            return None
        before, came_from[place] = cheapest[0] if place else (0, 0)
        kept = before + node.size
        heappush(cheapest, (kept, place))
    path = [len(nodes) - 1]
    while path[-1]:
        path.append(came_from[path[-1]])
    steps = path[::-1]
    largest = max(_needs(nodes[a], nodes[b]) for a, b in pairwise(steps))
    return Segments(chosen=tuple(place - 1 for place in steps[1:-1]), kept=kept, largest=largest)


def _needs(start: CutPoint, end: CutPoint) -> int:
    """Bytes of a segment, without the activations at its ends: these are kept."""
    return end.before - start.before - end.own
