"""Latency of candidates: measured at a few ranks, interpolated between, or expected from their MACs.

A few ranks of each method are timed. Between them latency is linear in MACs: one part of a chain's time
grows with its operations, the other is the same at every rank.

Where nothing is timed, the share of MACs decides whether a chain is faster. On onnxruntime's CPU kernels two
or three plain factors are faster below about .95 of the layer's MACs. A depthwise factor does few operations
per byte: a chain with one is faster below .8 on small maps and .7 on large ones, and below .5 and .3 in one
and three dimensions, for which there is no kernel of its own.
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

TIMED_RANKS = 3  # ranks timed for each layer and method
PLAIN_BREAK_EVEN = 0.95  # share of the layer's MACs up to which a chain without depthwise factor is faster
DEPTHWISE_BREAK_EVEN = {1: 0.5, 2: 0.8, 3: 0.3}  # the same with a depthwise factor, by axes of the kernel
LARGE_MAP_BREAK_EVEN = 0.7  # the most with a depthwise factor on maps of more than LARGE_MAP_POSITIONS
LARGE_MAP_POSITIONS = 56 * 56
# A chain is slower where its time exceeds the layer's by more than measurements scatter and one node costs:
TIMING_MARGIN = 1.05  # times a layer's milliseconds
NODE_OVERHEAD_MS = 0.02  # milliseconds added to that

Times = Mapping[str, tuple[float, float]]


def timed_candidates(
    site: Site, calibrated: CalibratedLayer, candidates: Sequence[Candidate], timer: LayerTiming
) -> list[Candidate]:
    """The layer and the candidates faster than it, with their milliseconds; none if it can't be timed.

    candidates: the layer as it is, then its chains; those that cut channels are for `timed_channel_cuts`.
    """
    chains = [c for c in candidates[1:] if not c.also_changes]
    timed = _candidate_times(site, calibrated, chains, timer)
    if timed is None:
        return []
    layer_ms = timed[0]
    faster = [replace(c, milliseconds=ms) for c, ms in zip(chains, timed[1:], strict=True) if ms < layer_ms]
    return [replace(candidates[0], milliseconds=layer_ms), *faster]


def timed_channel_cuts(
    site: Site,
    calibrated: CalibratedLayer,
    candidates: Sequence[Candidate],
    timer: LayerTiming,
    layer_times: Mapping[str, float],
) -> list[Candidate]:
    """The candidates that cut channels, with their milliseconds less those that the producers save.

    layer_times: milliseconds of the layers as they are. Only candidates faster than the layer are returned.
    """
    chains = [c for c in candidates if c.also_changes and layer_times.keys() >= {site.name, *c.also_changes}]
    timed = _candidate_times(site, calibrated, chains, timer) or []
    full = calibrated.layer.weight.shape[1]
    faster: list[Candidate] = []
    for c, ms in zip(chains, timed[1:], strict=True):
        left = ms - sum(layer_times[name] for name in c.also_changes) * (1 - _channel_rank(c.rank) / full)
        faster += [replace(c, milliseconds=left)] if left < layer_times[site.name] else []
    return faster


def timed_shared_inputs(
    site: Site,
    calibrated: CalibratedLayer,
    candidates: Sequence[Candidate],
    timer: LayerTiming,
    layer_times: Mapping[str, float],
) -> list[Candidate]:
    """The candidates of a shared-input site, with their milliseconds less those of its members.

    layer_times: milliseconds of the layers as they are. Only candidates faster than the members are returned.
    """
    chains = candidates[1:] if layer_times.keys() >= set(site.members) else []
    timed = _candidate_times(site, calibrated, chains, timer) or []
    saved = sum(layer_times[name] for name in site.members) if timed else 0.0
    faster = [
        replace(c, milliseconds=ms - saved) for c, ms in zip(chains, timed[1:], strict=True) if ms < saved
    ]
    return [replace(candidates[0], milliseconds=0.0), *faster]


def _channel_rank(rank: Rank | None) -> int:
    return rank[0] if isinstance(rank, tuple) else rank or 1


def _candidate_times(
    site: Site, calibrated: CalibratedLayer, chains: Sequence[Candidate], timer: LayerTiming
) -> list[float] | None:
    """Milliseconds of the layer and of every chain: a few are measured, the others interpolated.

    None where the timer can't run them.
    """
    methods = {c.method for c in chains}
    knots = {method: _knots([c for c in chains if c.method == method]) for method in methods}
    timed = [c for some in knots.values() for c in some]
    times = timer(calibrated.layer, [_computed_sketch(calibrated, c) for c in timed], site.calls)
    if times is None:
        return None
    known = dict(zip(map(_method_and_rank, timed), times[1:], strict=True))
    return [times[0], *(_interpolated(knots[c.method], known, c.macs) for c in chains)]


def _method_and_rank(candidate: Candidate) -> tuple[object, ...]:
    return candidate.method, candidate.rank


def _interpolated(knots: Sequence[Candidate], known: Mapping[tuple[object, ...], float], macs: int) -> float:
    """Milliseconds at some MACs, on the line through the knots on either side."""
    return float(np.interp(macs, [c.macs for c in knots], [known[_method_and_rank(c)] for c in knots]))


def _knots(chains: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of one method that are timed: those of least and most MACs, and some evenly between."""
    rising = sorted(chains, key=lambda c: c.macs)
    places = np.linspace(0, len(rising) - 1, min(TIMED_RANKS, len(rising)))
    return [rising[round(p)] for p in places]


def _computed_sketch(calibrated: CalibratedLayer, candidate: Candidate) -> Sequence[Layer]:
    method = candidate.method or ""
    return computed_part(method, calibrated.sketch(method, candidate.rank or 1))


def likely_faster(layer: Layer, chain: Sequence[Layer], calls: Sequence[Call]) -> bool:
    """Whether the chain is expected to be faster, from its share of the layer's MACs alone."""
    return macs(chain, calls) <= _break_even_share(layer, chain, calls) * macs([layer], calls)


def _break_even_share(layer: Layer, chain: Sequence[Layer], calls: Sequence[Call]) -> float:
    """The share of the layer's MACs up to which such a chain is expected to be faster."""
    if not any(link.groups > layer.groups for link in chain):
        return PLAIN_BREAK_EVEN
    large = max((prod(size) for size, _ in calls), default=0) > LARGE_MAP_POSITIONS
    return min(
        DEPTHWISE_BREAK_EVEN.get(len(layer.kernel), PLAIN_BREAK_EVEN), LARGE_MAP_BREAK_EVEN if large else 1.0
    )


def chain_times(plan: Plan, layers: Mapping[str, tuple[Site, CalibratedLayer]], timer: LayerTiming) -> Times:
    """Milliseconds of each layer of the plan and of the chain in its place, where they can be timed."""
    found = {}
    for name, step in plan.items():
        site, calibrated = layers[name]
        chain = computed_part(step.method, calibrated.sketch(step.method, step.rank))
        measured = timer(calibrated.layer, [chain], site.calls)
        if measured is not None:
            found[name] = measured[0], measured[1]
    return found


def is_slower(before: float, after: float) -> bool:
    """Whether `after` milliseconds are more than `before` by more than measurements scatter."""
    return after > TIMING_MARGIN * before + NODE_OVERHEAD_MS
