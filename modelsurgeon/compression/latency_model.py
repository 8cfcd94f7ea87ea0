"""Candidates with the milliseconds that they take, and whether a chain is quicker than its layer.

A few ranks of each method are timed; between them time is a straight line over MACs: one part of a chain's
time grows as its work does, the other is the same at every rank.

Without a clock, that is foretold from the share of MACs. On onnxruntime's CPU kernels two or three plain
factors win below about .95 of the layer's MACs. A depthwise factor does little with every number that it
fetches: a chain with one wins below .8 on small maps and .7 on large ones, and below .5 and .3 in one and in
three dimensions, for which there is no kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.compression.select import Candidate
from modelsurgeon.factorize import Rank
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import computed_part, macs
from modelsurgeon.surgery.plan import Plan
from modelsurgeon.surgery.site import Call, LayerTiming, Site

TIMED_RANKS = 3  # ranks that are timed, of each layer and method
PLAIN_BREAK_EVEN = 0.95  # share of MACs up to which a chain is quicker,
DEPTHWISE_BREAK_EVEN = {1: 0.5, 2: 0.8, 3: 0.3}  # and with a depthwise factor, by axes of the kernel,
LARGE_MAP_BREAK_EVEN = 0.7  # at most this, though, on maps of more elements than
LARGE_MAP_POSITIONS = 56 * 56
TIMING_MARGIN = 1.05  # times a layer's milliseconds: what measurements scatter,
NODE_OVERHEAD_MS = 0.02  # and milliseconds for calling a node more: a chain is clearly slower beyond both

Times = Mapping[str, tuple[float, float]]


def timed_candidates(
    site: Site, view: CalibratedLayer, found: Sequence[Candidate], clock: LayerTiming
) -> list[Candidate]:
    """The layer, and the candidates that take less time than it, all timed; none where that can't be done.

    found: the layer as it is, then its chains. Those that narrow other layers wait for `timed_channel_cuts`.
    """
    chains = [c for c in found[1:] if not c.whole]
    timed = _candidate_times(site, view, chains, clock)
    if timed is None:
        return []
    whole = timed[0]
    quick = [replace(c, milliseconds=ms) for c, ms in zip(chains, timed[1:], strict=True) if ms < whole]
    return [replace(found[0], milliseconds=whole), *quick]


def timed_channel_cuts(
    site: Site,
    view: CalibratedLayer,
    found: Sequence[Candidate],
    clock: LayerTiming,
    whole: Mapping[str, float],
) -> list[Candidate]:
    """The candidates that narrow other layers, which then take so much less of their time.

    whole: milliseconds of the layers as they are.
    """
    chains = [c for c in found if c.whole and whole.keys() >= {site.name, *c.whole}]
    timed = _candidate_times(site, view, chains, clock) or []
    full = view.layer.weight.shape[1]
    quick: list[Candidate] = []
    for c, ms in zip(chains, timed[1:], strict=True):
        left = ms - sum(whole[name] for name in c.whole) * (1 - _channel_rank(c.rank) / full)
        quick += [replace(c, milliseconds=left)] if left < whole[site.name] else []
    return quick


def timed_shared_inputs(
    site: Site,
    view: CalibratedLayer,
    found: Sequence[Candidate],
    clock: LayerTiming,
    whole: Mapping[str, float],
) -> list[Candidate]:
    """The candidates of a union that take less time than its parts, which is saved.

    whole: milliseconds of the layers as they are.
    """
    chains = found[1:] if whole.keys() >= set(site.members) else []
    timed = _candidate_times(site, view, chains, clock) or []
    saved = sum(whole[name] for name in site.members) if timed else 0.0
    quick = [
        replace(c, milliseconds=ms - saved) for c, ms in zip(chains, timed[1:], strict=True) if ms < saved
    ]
    return [replace(found[0], milliseconds=0.0), *quick]


def _channel_rank(rank: Rank | None) -> int:
    return rank[0] if isinstance(rank, tuple) else rank or 1


def _candidate_times(
    site: Site, view: CalibratedLayer, chains: Sequence[Candidate], clock: LayerTiming
) -> list[float] | None:
    """Milliseconds of the layer and of every chain, a few of them measured and the others between."""
    methods = {c.method for c in chains}
    knots = {method: _knots([c for c in chains if c.method == method]) for method in methods}
    tried = [c for some in knots.values() for c in some]
    times = clock(view.layer, [_sketch(view, c) for c in tried], site.calls)
    if times is None:
        return None
    known = dict(zip(map(_key, tried), times[1:], strict=True))
    return [times[0], *(_interpolated(knots[c.method], known, c.macs) for c in chains)]


def _key(candidate: Candidate) -> tuple[object, ...]:
    return candidate.method, candidate.rank


def _interpolated(knots: Sequence[Candidate], known: Mapping[tuple[object, ...], float], macs: int) -> float:
    """Milliseconds at some MACs, on the line through the knots on either side."""
    return float(np.interp(macs, [c.macs for c in knots], [known[_key(c)] for c in knots]))


def _knots(chains: Sequence[Candidate]) -> list[Candidate]:
    """Some of one method's candidates, by MACs: both ends, and evenly between."""
    rising = sorted(chains, key=lambda c: c.macs)
    places = np.linspace(0, len(rising) - 1, min(TIMED_RANKS, len(rising)))
    return [rising[round(p)] for p in places]


def _sketch(view: CalibratedLayer, candidate: Candidate) -> Sequence[Layer]:
    method = candidate.method or ""
    return computed_part(method, view.sketch(method, candidate.rank or 1))


def pays(layer: Layer, chain: Sequence[Layer], calls: Sequence[Call]) -> bool:
    """Whether the chain is expected to be quicker, from its share of the layer's MACs alone."""
    return macs(chain, calls) <= _break_even_share(layer, chain, calls) * macs([layer], calls)


def _break_even_share(layer: Layer, chain: Sequence[Layer], calls: Sequence[Call]) -> float:
    if not any(link.groups > layer.groups for link in chain):
        return PLAIN_BREAK_EVEN
    large = max((prod(size) for size, _ in calls), default=0) > LARGE_MAP_POSITIONS
    return min(
        DEPTHWISE_BREAK_EVEN.get(len(layer.kernel), PLAIN_BREAK_EVEN), LARGE_MAP_BREAK_EVEN if large else 1.0
    )


def chain_times(plan: Plan, views: Mapping[str, tuple[Site, CalibratedLayer]], clock: LayerTiming) -> Times:
    """Milliseconds of the plan's layers and of the chains that it puts there, where they can be had."""
    found = {}
    for name, step in plan.items():
        site, view = views[name]
        chain = computed_part(step.method, view.sketch(step.method, step.rank))
        measured = clock(view.layer, [chain], site.calls)
        if measured is not None:
            found[name] = measured[0], measured[1]
    return found


def is_slower(before: float, after: float) -> bool:
    """Whether milliseconds after are clearly more than before."""
    return after > TIMING_MARGIN * before + NODE_OVERHEAD_MS
