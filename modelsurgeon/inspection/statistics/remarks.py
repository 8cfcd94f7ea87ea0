"""Findings in a weight tensor, as sentences: one function per rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from modelsurgeon.inspection.statistics.activation import FLOAT16_MAX
from modelsurgeon.inspection.statistics.weight import Weight
from modelsurgeon.report.formatting import number, percent

USUAL_SCALE = (0.02, 20.0)  # times He's standard deviation: the range of trained weights
SPARSE_SHARE = 0.5  # least share of exact zeros
CLIPPED_SHARE = 0.05  # least share of values at the bounds
MIN_VALUES = 16  # values: of fewer, a share says nothing
MAX_CHANNELS_NAMED = 8  # in a sentence; JSON has all of them


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A finding in a tensor: the rule that found it, and its evidence as a sentence."""

    layer: str
    rule: str
    message: str


RemarkRule = Callable[[Weight], Iterator[str]]
REMARK_RULES: dict[str, RemarkRule] = {}


def remarks(weight: Weight) -> list[Remark]:
    """All findings in one tensor; messages name its role where that isn't "weight"."""
    prefix = "" if weight.role == "weight" else f"{weight.role}: "
    return [
        Remark(layer=weight.layer, rule=name, message=prefix + message)
        for name, rule in REMARK_RULES.items()
        for message in rule(weight)
    ]


def rule(name: str) -> Callable[[RemarkRule], RemarkRule]:
    """Decorator that registers a rule under this name."""

    def add(function: RemarkRule) -> RemarkRule:
        REMARK_RULES[name] = function
        return function

    return add


@rule("nan-or-inf")
def nan_or_inf(weight: Weight) -> Iterator[str]:
    """NaN and Inf, with the channels that hold them."""
    seen = weight.spread
    counts = {name: count for name, count in (("NaN", seen.nan), ("Inf", seen.inf)) if count}
    if not counts:
        return
    kinds = " and ".join(counts)
    if weight.channels is None:
        yield f"{kinds} in {seen.nan + seen.inf} of {seen.count} values"
        return
    broken = weight.channels.broken
    where = f"{len(broken)} of {weight.channels.outputs} output channels ({listed(broken)})"
    yield f"{kinds} in {where}, {seen.nan + seen.inf} values in all"


@rule("constant")
def constant(weight: Weight) -> Iterator[str]:
    """A matrix with all values equal: never trained, or never stored."""
    seen = weight.spread
    if weight.channels is not None and seen.finite == seen.count > 1 and seen.low == seen.high:
        yield f"all {seen.count} values are {number(seen.low)}"


@rule("dead-outputs")
def dead_outputs(weight: Weight) -> Iterator[str]:
    """Output channels whose weights are zero: they give their bias for any input."""
    if weight.channels is not None and weight.channels.dead and not _is_constant(weight):
        dead = weight.channels.dead
        yield f"{len(dead)} of {weight.channels.outputs} output channels are zero: {listed(dead)}"


@rule("dead-inputs")
def dead_inputs(weight: Weight) -> Iterator[str]:
    """Input channels whose weights are zero: computing them is wasted."""
    if weight.channels is not None and weight.channels.dead_inputs and not _is_constant(weight):
        dead = weight.channels.dead_inputs
        unit = "rows" if weight.role == "table" else "input channels"
        yield f"{len(dead)} of {weight.channels.inputs} {unit} are zero: {listed(dead)}"


@rule("duplicate-outputs")
def duplicate_outputs(weight: Weight) -> Iterator[str]:
    """Output channels with equal weights."""
    if weight.channels is not None and weight.channels.duplicates and not _is_constant(weight):
        groups = weight.channels.duplicates
        count = sum(map(len, groups))
        yield (
            f"{count} of {weight.channels.outputs} output channels have the same weights as another, "
            f"{weight.channels.spare} could be removed: {_list_groups(groups)}"
        )


@rule("scaled-outputs")
def scaled_outputs(weight: Weight) -> Iterator[str]:
    """Output channels that are multiples of another one."""
    if weight.channels is not None and weight.channels.scaled:
        groups = weight.channels.scaled
        count = sum(map(len, groups))
        yield (
            f"{count} of {weight.channels.outputs} output channels are multiples of another one: "
            f"{_list_groups(groups)}"
        )


@rule("scale")
def scale(weight: Weight) -> Iterator[str]:
    """A standard deviation far from those of usual initializations and of trained weights."""
    low, high = USUAL_SCALE
    ratio = weight.he
    if weight.role == "table" or ratio is None or _is_constant(weight) or low <= ratio <= high:
        return
    yield (
        f"std {number(weight.spread.std or 0)} is {number(ratio)} times that of He's initialization "
        f"({number(weight.xavier or 0)} times Xavier's): {low:g} to {high:g} is usual"
    )


@rule("sparse")
def sparse(weight: Weight) -> Iterator[str]:
    """At least half of the values are exactly zero."""
    seen = weight.spread
    if weight.channels is not None and seen.sparsity >= SPARSE_SHARE and not _is_constant(weight):
        yield f"{percent(seen.sparsity)} of the values are exactly 0"


@rule("clipped")
def clipped(weight: Weight) -> Iterator[str]:
    """Many values equal the smallest or the largest: clipped weights, or few levels."""
    seen = weight.spread
    if (
        weight.channels is not None
        and seen.count >= MIN_VALUES
        and weight.at_bounds - 2 / seen.count >= CLIPPED_SHARE
    ):
        ends = f"{number(seen.low)} and {number(seen.high)}"
        yield f"{percent(weight.at_bounds)} of the values are at the bounds {ends}"


@rule("rank-deficient")
def rank_deficient(weight: Weight) -> Iterator[str]:
    """A rank below full by more than the number of zero channels: other channels depend on each other."""
    found, seen = weight.spectrum, weight.channels
    if found is None or found.rank is None or seen is None or _is_constant(weight) or not found.norm:
        return
    if found.full - found.rank > len(seen.dead) + len(seen.dead_inputs):
        yield f"rank {found.rank} of {found.full}: the other singular values are below float32 rounding"


@rule("half-overflow")
def half_overflow(weight: Weight) -> Iterator[str]:
    """Values above the float16 maximum."""
    if weight.spread.peak > FLOAT16_MAX:
        yield f"magnitudes up to {number(weight.spread.peak)}: the largest float16 is {FLOAT16_MAX:.0f}"


@rule("negative-variance")
def negative_variance(weight: Weight) -> Iterator[str]:
    """Negative variances, for which batch norm gives NaN."""
    if weight.role == "variance" and weight.spread.finite and weight.spread.low < 0:
        yield f"as low as {number(weight.spread.low)}: a variance can't be negative"


@rule("zero-scale")
def zero_scale(weight: Weight) -> Iterator[str]:
    """Channels that a normalization sets to a constant."""
    seen = weight.spread
    if weight.role == "scale" and seen.zeros and seen.count > 1:
        yield f"0 in {seen.zeros} of {seen.count} channels: their output is constant"


def _is_constant(weight: Weight) -> bool:
    """Whether all values are equal, which the rule `constant` reports."""
    return weight.spread.low == weight.spread.high and weight.spread.count > 1


def listed(numbers: Sequence[int]) -> str:
    """A list of the first few numbers, with how many more there are."""
    shown = ", ".join(map(str, numbers[:MAX_CHANNELS_NAMED]))
    return (
        f"{shown} and {len(numbers) - MAX_CHANNELS_NAMED} more"
        if len(numbers) > MAX_CHANNELS_NAMED
        else shown
    )


def _list_groups(groups: Sequence[Sequence[int]]) -> str:
    shown = ", ".join(
        " = ".join(map(str, group[:MAX_CHANNELS_NAMED])) + " = ..." * (len(group) > MAX_CHANNELS_NAMED)
        for group in groups[:3]
    )
    return f"{shown} and {len(groups) - 3} more groups" if len(groups) > 3 else shown
