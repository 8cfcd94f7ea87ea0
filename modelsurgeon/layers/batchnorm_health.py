"""Findings about the parameters and running statistics of a batch norm, and their repair.

Running statistics go wrong in few ways: numbers that aren't finite, a variance below zero, a variance so near
zero that epsilon alone sets the gain, initial statistics that no training updated, and statistics of
other data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelsurgeon.layers.batchnorm import BatchNorm
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.layers.layer import Array

DEFAULT_EPSILON = 1e-5
CONSTANT_VARIANCE_SHARE = 1e-3  # of epsilon: a channel with a variance below is constant
MIN_VARIANCE = 1e-10  # beside epsilon, which may be 0: less than this is rounding
MAX_GAIN = 1e3  # a larger gain amplifies rounding to the size of the signal
MAX_USUAL_EPSILON = 1e-2
MAX_MEAN_DRIFT = 0.25  # standard deviations between the stored and the measured mean
MAX_VARIANCE_RATIO = 2.0  # of the stored and the measured variance, the larger over the smaller

NEUTRAL_PARAMETERS = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "var": 1.0}


@dataclass(frozen=True, kw_only=True)
class NormFinding:
    """One finding about a batch norm. rule: its fixed identifier. message: what was found and what to do."""

    rule: str
    message: str


def findings(
    norm: BatchNorm, *, training: bool = False, momentum: float = 0.9, truth: ChannelStatistics | None = None
) -> list[NormFinding]:
    """All findings about a batch norm. truth: statistics of its input measured on data.

    momentum: weight of the old running statistics in each update, as in ONNX (1 - the momentum of torch).
    """
    return [
        NormFinding(rule=rule, message=message)
        for rule, message in (
            *_number_findings(norm),
            *_mode_findings(norm, training, momentum),
            *_drift_findings(norm, truth),
        )
    ]


def _number_findings(norm: BatchNorm) -> Iterator[tuple[str, str]]:
    for name in NEUTRAL_PARAMETERS:
        if odd := int((~np.isfinite(getattr(norm, name))).sum()):
            yield "not-finite", f"{name} is NaN or infinite in {_channel_count(odd, norm)}: bn sanitize"
    negative = norm.var < 0
    if odd := int(negative.sum()):
        yield "negative-variance", f"the variance is below 0 in {_channel_count(odd, norm)}: bn sanitize"
    if odd := int(((norm.var < norm.epsilon) & ~negative).sum()):
        yield "near-zero-variance", f"epsilon outweighs the variance in {_channel_count(odd, norm)}"
    gain = np.abs(_stored_gain(norm))
    readable = np.isfinite(norm.scale) & np.isfinite(norm.var) & ~negative
    if odd := int((readable & ~(gain <= MAX_GAIN)).sum()):
        largest = gain[np.isfinite(gain)].max(initial=0)
        yield (
            "huge-gain",
            f"the gain is above {MAX_GAIN:g} in {_channel_count(odd, norm)}, {largest:.3g} at most",
        )
    if odd := int((norm.scale == 0).sum()):
        yield "dead-channel", f"the scale is 0 in {_channel_count(odd, norm)}: its output there is constant"


def _mode_findings(norm: BatchNorm, training: bool, momentum: float) -> Iterator[tuple[str, str]]:
    if training:
        yield "training-mode", "it normalizes by the statistics of each batch: bn freeze --training"
    if not 0 <= momentum <= 1:
        yield "momentum", f"its momentum is {momentum:g}: from 0 to 1 is sound"
    elif momentum in (0, 1):
        effect = "only the last batch counts" if momentum == 0 else "training never moves the statistics"
        yield "momentum", f"its momentum is {momentum:g}: {effect}"
    if not (0 <= norm.epsilon < MAX_USUAL_EPSILON):
        yield "epsilon", f"its epsilon is {norm.epsilon:g}: from 0 to {MAX_USUAL_EPSILON:g} is usual"
    if not norm.mean.any() and (norm.var == 1).all() and norm.epsilon:
        yield "untrained", "means are 0 and variances 1: training never updated them, or it is frozen"


def _drift_findings(norm: BatchNorm, truth: ChannelStatistics | None) -> Iterator[tuple[str, str]]:
    if truth is None or truth.count < 2:
        return
    moved, spread = drift(norm, truth)
    if odd := int((moved > MAX_MEAN_DRIFT).sum()):
        yield (
            "mean-drift",
            f"the stored mean is up to {moved.max():.3g} standard deviations off that of the data, "
            f"more than {MAX_MEAN_DRIFT:g} in {_channel_count(odd, norm)}: bn recalibrate",
        )
    if odd := int((spread > MAX_VARIANCE_RATIO).sum()):
        yield (
            "variance-drift",
            f"stored and measured variance differ up to {spread.max():.3g} times, "
            f"more than {MAX_VARIANCE_RATIO:g} in {_channel_count(odd, norm)}: bn recalibrate",
        )


def drift(norm: BatchNorm, truth: ChannelStatistics) -> tuple[Array, Array]:
    """Drift of the stored statistics from measured ones per channel, two arrays `(channels,)`.

    The distance of the means in measured standard deviations, and the ratio of the variances (with epsilon),
    the larger over the smaller. Both are inf, or the largest float64, where statistics are broken.
    """
    measured = truth.var + norm.epsilon
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        moved = np.abs(norm.mean - truth.mean) / np.sqrt(measured)
        ratio = (norm.var.astype(np.float64) + norm.epsilon) / measured
        spread = np.maximum(ratio, 1 / ratio)
    return np.nan_to_num(moved, nan=np.inf), np.nan_to_num(np.where(ratio > 0, spread, np.inf), nan=np.inf)


def repair(norm: BatchNorm, truth: ChannelStatistics | None = None) -> tuple[BatchNorm, list[str]]:
    """The batch norm with broken numbers repaired, and a sentence for each repair; none where it is sound.

    Broken statistics are replaced by those of `truth` where it is given; else numbers that aren't finite
    become neutral and negative variances 0. A channel is judged by its gain: where that isn't finite, comes
    from a variance below 0, or from one that is rounding even with epsilon, the scale becomes 0, unless it is
    so in all channels.
    """
    done: list[str] = []
    if not (np.isfinite(norm.epsilon) and norm.epsilon >= 0):
        norm, done = replace(norm, epsilon=DEFAULT_EPSILON), [f"epsilon set to {DEFAULT_EPSILON:g}"]
    if truth is not None:
        norm = _with_measured_statistics(norm, truth, done)
    norm = _with_finite_parameters(norm, done)
    lost = norm.var < 0
    if odd := int(lost.sum()):
        done.append(f"variance clamped to 0 in {_channel_count(odd, norm)}")
        norm = replace(norm, var=np.maximum(norm.var, 0))
    return _with_sound_gains(norm, lost, truth, done), done


def _with_sound_gains(
    norm: BatchNorm, lost: Array, truth: ChannelStatistics | None, done: list[str]
) -> BatchNorm:
    """The norm with channels made constant whose gain is broken, or whose variance is lost.

    Where all are, the scales stay; variances that still make no sound gain are raised.
    """
    broken = _broken_gains(norm, truth)
    constant = (broken | lost) & (norm.scale != 0)
    if constant.any() and not (broken | lost).all():
        done.append(f"{_channel_count(int(constant.sum()), norm)} have no sound gain: made constant")
        norm = replace(norm, scale=np.where(constant, 0, norm.scale))
    zero = _broken_gains(norm, truth)
    if zero.any():
        done.append(f"variance raised to {DEFAULT_EPSILON:g} in {_channel_count(int(zero.sum()), norm)}")
        norm = replace(norm, var=np.where(zero, DEFAULT_EPSILON, norm.var))
    return norm


def _stored_variance(norm: BatchNorm) -> Array:
    """Variance plus epsilon in the dtype of the variance, as a runtime adds them, `(channels,)`."""
    var = np.asarray(norm.var)
    total: Array = (var + np.asarray(norm.epsilon).astype(var.dtype)).astype(np.float64)
    return total


def _stored_gain(norm: BatchNorm) -> Array:
    """Gain of each channel with variance and epsilon added in their dtype, `(channels,)`."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        gain: Array = np.asarray(norm.scale, np.float64) / np.sqrt(_stored_variance(norm))
    return gain


def _broken_gains(norm: BatchNorm, truth: ChannelStatistics | None) -> Array:
    """Whether each channel's gain isn't finite or made of rounding, `(channels,)`.

    With data, whether it is huge, too, and unless the data call for it.
    """
    gain = np.abs(_stored_gain(norm))
    with np.errstate(over="ignore"):
        finite = np.isfinite(gain.astype(norm.scale.dtype))
    broken: Array = ~finite | ~(_stored_variance(norm) >= MIN_VARIANCE)
    if truth is None:
        return broken
    called_for: Array = finite & (drift(norm, truth)[1] <= MAX_VARIANCE_RATIO)
    return (broken | (gain > MAX_GAIN)) & ~called_for


def _constant_channels(norm: BatchNorm) -> Array:
    """Whether each channel's variance is that of a constant, `(channels,)`."""
    constant: Array = norm.var < max(CONSTANT_VARIANCE_SHARE * norm.epsilon, MIN_VARIANCE)
    return constant


def _with_measured_statistics(norm: BatchNorm, truth: ChannelStatistics, done: list[str]) -> BatchNorm:
    """The norm with measured statistics where its own are broken, those of a constant or make a broken gain.

    Noted in `done`.
    """
    cured = ~_broken_gains(replace(norm, mean=truth.mean, var=truth.var), None)
    bad = ~np.isfinite(norm.mean) | ~np.isfinite(norm.var) | (norm.var < 0)
    bad |= _constant_channels(norm) & (truth.var >= max(norm.epsilon, MIN_VARIANCE))
    bad |= _broken_gains(norm, truth) & np.isfinite(norm.scale) & cured
    bad &= np.isfinite(truth.mean) & np.isfinite(truth.var)
    if bad.any():
        done.append(f"statistics set to those of the data in {_channel_count(int(bad.sum()), norm)}")
    return replace(norm, mean=np.where(bad, truth.mean, norm.mean), var=np.where(bad, truth.var, norm.var))


def _with_finite_parameters(norm: BatchNorm, done: list[str]) -> BatchNorm:
    """The norm with neutral parameters where they aren't finite; noted in `done`."""
    for name, neutral in NEUTRAL_PARAMETERS.items():
        part = getattr(norm, name)
        bad = ~np.isfinite(part)
        if bad.any():
            done.append(f"{name} set to {neutral:g} in {_channel_count(int(bad.sum()), norm)}")
            changes: dict[str, Any] = {name: np.where(bad, neutral, part)}
            norm = replace(norm, **changes)
    return norm


def _channel_count(count: int, norm: BatchNorm) -> str:
    return f"{count} of {norm.channels} channels"
