"""Alignment of the layers of two models: by name, then by operator, shape and order.

Layers of equal names are paired first, and a layer `name` with the chain `name.0`, `name.1`, ... that
replaces it. The pairs that are in the same order in both models split both into gaps. The other layers of
each gap are aligned as sequences (Needleman and Wunsch, 1970): pairs of equal operators, in order, of the
largest total score. A name that an exporter numbered, such as `relu_3`, changes with every layer inserted
before it, so it only adds to the score.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

COUNTED_NAME = re.compile(r"(?:[^./]*_)?\d+")  # a number, or a word and a number: `12`, `relu_3`
MAX_GAP_COMPARISONS = 40_000  # in one gap; in a larger one, runs of equal layers are paired first
SAME_NAME_SCORE, SAME_OP_SCORE = 2, 3  # points for an equal name and operator; each equal trait has 1

Pair = tuple[list[int], list[int]]  # indices of layers in the two models; one list may be empty


@dataclass(frozen=True, kw_only=True)
class Item:
    """The properties by which a layer is matched. traits: values likely to stay equal, such as shapes."""

    name: str
    op: str
    traits: tuple[Hashable, ...] = ()


def align(a: Sequence[Item], b: Sequence[Item]) -> list[Pair]:
    """Pairs of indices with every layer of both models once, in the order of `b`.

    A layer without a partner is a pair with an empty list; layers of `a` alone follow the one before them in
    `a`.
    """
    named = _by_name(a, b)
    anchors = _longest_common_order(named)
    pairs = list(named)
    taken_a, taken_b = ({i for pair in pairs for i in pair[side]} for side in (0, 1))
    ends = [(-1, -1), *((left[-1], max(right)) for left, right in anchors), (len(a), len(b))]
    starts = [(left[0], min(right)) for left, right in anchors]
    for (i, j), (k, m) in zip(ends, [*starts, (len(a), len(b))], strict=False):
        free_a = [at for at in range(i + 1, k) if at not in taken_a]
        free_b = [at for at in range(j + 1, m) if at not in taken_b]
        pairs += _align_gap(a, b, free_a, free_b)
        taken_a.update(free_a)
        taken_b.update(free_b)
    pairs += [([i], []) for i in range(len(a)) if i not in taken_a]
    pairs += [([], [j]) for j in range(len(b)) if j not in taken_b]
    return _in_order_of_b(pairs)


def _by_name(a: Sequence[Item], b: Sequence[Item]) -> list[Pair]:
    """Pairs of equal names, numbered ones only for equal layers, and layers with their chains."""
    places = {item.name: place for place, item in enumerate(b)}
    old = {item.name for item in a}
    new = {name: place for name, place in places.items() if name not in old}
    found: list[Pair] = []
    for i, item in enumerate(a):
        if item.name in places:
            j = places[item.name]
            if not COUNTED_NAME.fullmatch(item.name) or _similarity(
                item, b[j]
            ) >= SAME_NAME_SCORE + SAME_OP_SCORE + len(item.traits):
                found.append(([i], [j]))
        elif chain := list(_chain_places(item.name, new)):
            found.append(([i], chain))
    return found


def _chain_places(name: str, places: dict[str, int]) -> Iterator[int]:
    """Indices of `name.0`, `name.1`, ... as far as they exist."""
    number = 0
    while (place := places.get(f"{name}.{number}")) is not None:
        yield place
        number += 1


def _longest_common_order(pairs: Sequence[Pair]) -> list[Pair]:
    """The longest sequence of pairs that is in the same order in both models; chains must not overlap."""
    ends: list[int] = []
    links: list[tuple[int, int | None]] = []
    tops: list[int] = []
    for at, (_, right) in enumerate(pairs):
        place = bisect_left(ends, min(right))
        ends[place:] = [max(right)]
        links.append((at, tops[place - 1] if place else None))
        tops[place:] = [at]
    found: list[Pair] = []
    at_link = tops[-1] if tops else None
    while at_link is not None:
        found.append(pairs[at_link])
        at_link = links[at_link][1]
    return found[::-1]


def _align_gap(a: Sequence[Item], b: Sequence[Item], left: list[int], right: list[int]) -> list[Pair]:
    """Pairs of the layers in a gap, `left` of `a` and `right` of `b`; in a large one, equal runs first."""
    if len(left) * len(right) <= MAX_GAP_COMPARISONS:
        return _needleman_wunsch(a, b, left, right)
    ours, theirs = ([(net[i].op, net[i].traits) for i in side] for net, side in ((a, left), (b, right)))
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    found: list[Pair] = []
    i = j = 0
    for block in blocks:
        small = (block.a - i) * (block.b - j) <= MAX_GAP_COMPARISONS
        found += _needleman_wunsch(a, b, left[i : block.a], right[j : block.b]) if small else []
        i, j = block.a + block.size, block.b + block.size
        found += [([left[block.a + n]], [right[block.b + n]]) for n in range(block.size)]
    paired = [{at for pair in found for at in pair[side]} for side in (0, 1)]
    alone: list[Pair] = [([at], []) for at in left if at not in paired[0]]
    return [*found, *alone, *(([], [at]) for at in right if at not in paired[1])]


def _needleman_wunsch(a: Sequence[Item], b: Sequence[Item], left: list[int], right: list[int]) -> list[Pair]:
    """The global alignment of two sequences with the largest total similarity; skipping a layer costs 0."""
    best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, x in enumerate(left, 1):
        for j, y in enumerate(right, 1):
            best[i][j] = max(best[i - 1][j], best[i][j - 1], best[i - 1][j - 1] + _similarity(a[x], b[y]))
    found: list[Pair] = []
    i, j = len(left), len(right)
    while i or j:
        if i and best[i][j] == best[i - 1][j]:
            i -= 1
            found.append(([left[i]], []))
        elif j and best[i][j] == best[i][j - 1]:
            j -= 1
            found.append(([], [right[j]]))
        else:
            i, j = i - 1, j - 1
            found.append(([left[i]], [right[j]]))
    return found


def _similarity(a: Item, b: Item) -> int:
    """Similarity score of two layers; 0 where their operators differ."""
    if a.op != b.op:
        return 0
    alike = sum(x == y for x, y in zip(a.traits, b.traits, strict=True))
    return SAME_OP_SCORE + SAME_NAME_SCORE * (a.name == b.name) + alike


def _in_order_of_b(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs in the order of `b`; a layer of `a` alone follows the layer that it follows in `a`."""
    where = {i: min(right) for left, right in pairs for i in left if right}
    known = sorted(where)

    def key(pair: Pair) -> tuple[float, int]:
        left, right = pair
        if right:
            return min(right), -1
        before = bisect_left(known, left[0])
        return (where[known[before - 1]] + 0.5 if before else -1), left[0]

    return sorted(pairs, key=key)
