"""The chosen checkpoints, compared with exhaustive search."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.inspection.checkpointing import CutPoint, Segments, segments


@st.composite
def nets(draw: st.DrawFn) -> tuple[list[CutPoint], int]:
    """Cuts, each with its own activation counted in `before` or not, and the bytes of the whole net."""
    before, cuts = 0, []
    for _ in range(draw(st.integers(0, 7))):
        size = draw(st.integers(0, 20))
        own = draw(st.sampled_from([0, size]))
        before += own + draw(st.integers(0, 20))
        cuts.append(CutPoint(size=size, before=before, own=own))
    return cuts, before + draw(st.integers(0, 20))


def total(cuts: list[CutPoint], whole: int, chosen: tuple[int, ...]) -> int:
    ends = [cuts[index] for index in chosen] + [CutPoint(size=0, before=whole, own=0)]
    starts = [0, *(cuts[index].before for index in chosen)]
    parts = [end.before - end.own - start for start, end in zip(starts, ends, strict=True)]
    return sum(cuts[index].size for index in chosen) + max(parts)


@given(net=nets())
def test_no_choice_is_better(net: tuple[list[CutPoint], int]) -> None:
    cuts, whole = net
    choices = chain.from_iterable(combinations(range(len(cuts)), n) for n in range(len(cuts) + 1))
    found = segments(cuts, whole)
    assert found.total == total(cuts, whole, found.chosen)
    assert found.total == min(total(cuts, whole, choice) for choice in choices)


@pytest.mark.parametrize("n", [4, 16, 64, 100])
def test_a_uniform_chain_takes_2_sqrt_n(n: int) -> None:
    """Chen et al. 2016, section 4.1, without the kept activation at the end of a segment."""
    cuts = [CutPoint(size=1, before=place + 1, own=1) for place in range(n - 1)]
    assert segments(cuts, n).total == 2 * n**0.5 - 1


def test_without_cuts_nothing_is_saved() -> None:
    assert segments([], 7) == Segments(chosen=(), kept=0, largest=7)
