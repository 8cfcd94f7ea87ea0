"""What can be wrong with a batch norm, and how it is mended.

Running statistics go wrong in few ways: numbers that aren't finite, a variance below zero, one so near zero
that epsilon alone sets the gain, statistics that no training ever touched, and statistics of other data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelsurgeon.layers.batchnorm import BatchNorm
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.layers.layer import Array

EPSILON = 1e-5
CONSTANT = 1e-3  # of epsilon: a variance below is that of a channel that never varied
HUGE = 1e3  # a gain beyond turns rounding into signal
LARGE_EPSILON = 1e-2
DRIFT = 0.25  # of a standard deviation, for the mean
SPREAD = 2.0  # times, up or down, for the variance

NEUTRAL = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "var": 1.0}


@dataclass(frozen=True, kw_only=True)
class NormFinding:
    """rule: one word or two, always the same; message: what was found, and where it matters what to do."""

    rule: str
    message: str


def findings(
    norm: BatchNorm, *, training: bool = False, momentum: float = 0.9, truth: ChannelStatistics | None = None
) -> list[NormFinding]:
    """All that is wrong or odd. truth: what data shows at the norm's input.

    momentum: the share of the running statistics that each batch leaves, as ONNX has it.
    """
    return [
        NormFinding(rule=rule, message=message)
        for rule, message in (*_numbers(norm), *_mode(norm, training, momentum), *_drift(norm, truth))
    ]


def _numbers(norm: BatchNorm) -> Iterator[tuple[str, str]]:
    for name in NEUTRAL:
        if odd := int((~np.isfinite(getattr(norm, name))).sum()):
            yield "not-finite", f"{name} is NaN or infinite in {_of(odd, norm)}: bn sanitize"
    negative = norm.var < 0
    if odd := int(negative.sum()):
        yield "negative-variance", f"the variance is below 0 in {_of(odd, norm)}: bn sanitize"
    if odd := int(((norm.var < norm.epsilon) & ~negative).sum()):
        yield "near-zero-variance", f"epsilon outweighs the variance in {_of(odd, norm)}"
    gain = np.abs(norm.gain)
    if odd := int((gain > HUGE).sum()):
        largest = gain[np.isfinite(gain)].max(initial=0)
        yield "huge-gain", f"the gain is above {HUGE:g} in {_of(odd, norm)}, {largest:.3g} at most"
    if odd := int((norm.scale == 0).sum()):
        yield "dead-channel", f"the scale is 0 in {_of(odd, norm)}: what it gives is constant"


def _mode(norm: BatchNorm, training: bool, momentum: float) -> Iterator[tuple[str, str]]:
    if training:
        yield "training-mode", "it normalises by the statistics of each batch: bn freeze --training"
    if not 0 <= momentum <= 1:
        yield "momentum", f"its momentum is {momentum:g}: from 0 to 1 is sound"
    elif momentum in (0, 1):
        told = "only the last batch counts" if momentum == 0 else "training never moves the statistics"
        yield "momentum", f"its momentum is {momentum:g}: {told}"
    if not (0 <= norm.epsilon < LARGE_EPSILON):
        yield "epsilon", f"its epsilon is {norm.epsilon:g}: from 0 to {LARGE_EPSILON:g} is usual"
    if not norm.mean.any() and (norm.var == 1).all() and norm.epsilon:
        yield "untrained", "means are 0 and variances 1: no training has touched them, or it is frozen"


def _drift(norm: BatchNorm, truth: ChannelStatistics | None) -> Iterator[tuple[str, str]]:
    if truth is None or truth.count < 2:
        return
    moved, spread = drift(norm, truth)
    if odd := int((moved > DRIFT).sum()):
        yield (
            "mean-drift",
            f"the stored mean is up to {moved.max():.3g} standard deviations off what data shows, "
            f"more than {DRIFT:g} in {_of(odd, norm)}: bn recalibrate",
        )
    if odd := int((spread > SPREAD).sum()):
        yield (
            "variance-drift",
            f"stored and true variance differ up to {spread.max():.3g} times, "
            f"more than {SPREAD:g} in {_of(odd, norm)}: bn recalibrate",
        )


def drift(norm: BatchNorm, truth: ChannelStatistics) -> tuple[Array, Array]:
    """Per channel, how many true standard deviations the mean is off, and how many times the variance."""
    true = truth.var + norm.epsilon
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        moved = np.abs(norm.mean - truth.mean) / np.sqrt(true)
        ratio = (norm.var.astype(np.float64) + norm.epsilon) / true
        spread = np.maximum(ratio, 1 / ratio)
    return np.nan_to_num(moved, nan=np.inf), np.nan_to_num(np.where(ratio > 0, spread, np.inf), nan=np.inf)


def repair(norm: BatchNorm, truth: ChannelStatistics | None = None) -> tuple[BatchNorm, list[str]]:
    """The norm with what is broken repaired, and what was done, in words; nothing where it is sound.

    Broken statistics become those of `truth`, where it is given, or else neutral ones. A channel whose
    variance is nothing beside epsilon never varied: it becomes the constant that it gave.
    """
    done: list[str] = []
    if not (np.isfinite(norm.epsilon) and norm.epsilon >= 0):
        norm, done = replace(norm, epsilon=EPSILON), [f"epsilon set to {EPSILON:g}"]
    if truth is not None:
        norm = _with_truth(norm, truth, done)
    norm = _with_finite(norm, done)
    if odd := int((norm.var < 0).sum()):
        done.append(f"variance clamped to 0 in {_of(odd, norm)}")
        norm = replace(norm, var=np.maximum(norm.var, 0))
    tiny = _tiny(norm)
    still = tiny & (norm.scale != 0)
    if still.any() and not tiny.all():
        done.append(f"{_of(int(still.sum()), norm)} never varied: made constant")
        norm = replace(norm, scale=np.where(still, 0, norm.scale))
    return norm, done


def _tiny(norm: BatchNorm) -> Array:
    """The channels that never varied, as far as their statistics tell."""
    tiny: Array = norm.var < CONSTANT * norm.epsilon
    return tiny


def _with_truth(norm: BatchNorm, truth: ChannelStatistics, done: list[str]) -> BatchNorm:
    """The norm with true statistics where its own are broken, or where what never varied does."""
    bad = ~np.isfinite(norm.mean) | ~np.isfinite(norm.var) | (norm.var < 0)
    bad |= _tiny(norm) & (truth.var >= norm.epsilon)
    bad &= np.isfinite(truth.mean) & np.isfinite(truth.var)
    if bad.any():
        done.append(f"statistics set to what data shows in {_of(int(bad.sum()), norm)}")
    return replace(norm, mean=np.where(bad, truth.mean, norm.mean), var=np.where(bad, truth.var, norm.var))


def _with_finite(norm: BatchNorm, done: list[str]) -> BatchNorm:
    """Neutral numbers where they aren't finite; noted in `done`."""
    for name, neutral in NEUTRAL.items():
        part = getattr(norm, name)
        bad = ~np.isfinite(part)
        if bad.any():
            done.append(f"{name} set to {neutral:g} in {_of(int(bad.sum()), norm)}")
            changes: dict[str, Any] = {name: np.where(bad, neutral, part)}
            norm = replace(norm, **changes)
    return norm


def _of(count: int, norm: BatchNorm) -> str:
    return f"{count} of {norm.channels} channels"
