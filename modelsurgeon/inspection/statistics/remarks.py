"""What stands out in a weight tensor, in plain sentences: one function for each rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from modelsurgeon.inspection.statistics.weight import Weight
from modelsurgeon.report.formatting import number, percent

USUAL_SCALE = (0.02, 20.0)  # times He's standard deviation: the band in which trained weights lie
SPARSE_SHARE = 0.5  # share of exact zeros
CLIPPED_SHARE = 0.05  # share of numbers at the bounds
MIN_NUMBERS = 16  # numbers: of fewer, no share says anything
FLOAT16_MAX = 65504.0  # the largest number in float16
MAX_CHANNELS_NAMED = 8  # channels that a sentence names; JSON has all of them


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something that stands out, by which rule, with the evidence."""

    layer: str
    rule: str
    message: str


Rule = Callable[[Weight], Iterator[str]]
REMARK_RULES: dict[str, Rule] = {}


def remarks(weight: Weight) -> list[Remark]:
    """All that stands out in one tensor; its role is named where that isn't plain "weight"."""
    what = "" if weight.role == "weight" else f"{weight.role}: "
    return [
        Remark(layer=weight.layer, rule=name, message=what + message)
        for name, rule in REMARK_RULES.items()
        for message in rule(weight)
    ]


def rule(name: str) -> Callable[[Rule], Rule]:
    """Add a rule under this name."""

    def add(function: Rule) -> Rule:
        REMARK_RULES[name] = function
        return function

    return add


@rule("nan-or-inf")
def nan_or_inf(weight: Weight) -> Iterator[str]:
    """Numbers that are none, and the channels they stand in."""
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
    """A matrix of one number everywhere: never trained, or never stored."""
    seen = weight.spread
    if weight.channels is not None and seen.finite == seen.count > 1 and seen.low == seen.high:
        yield f"all {seen.count} values are {number(seen.low)}"


@rule("dead-outputs")
def dead_outputs(weight: Weight) -> Iterator[str]:
    """Output channels that give their bias, whatever comes in."""
    if weight.channels is not None and weight.channels.dead and not _constant(weight):
        dead = weight.channels.dead
        yield f"{len(dead)} of {weight.channels.outputs} output channels are zero: {listed(dead)}"


@rule("dead-inputs")
def dead_inputs(weight: Weight) -> Iterator[str]:
    """Input channels that nothing comes of: whoever computes them works for nothing."""
    if weight.channels is not None and weight.channels.dead_inputs and not _constant(weight):
        dead = weight.channels.dead_inputs
        what = "rows" if weight.role == "table" else "input channels"
        yield f"{len(dead)} of {weight.channels.inputs} {what} are zero: {listed(dead)}"


@rule("duplicate-outputs")
def duplicate_outputs(weight: Weight) -> Iterator[str]:
    """Output channels with the very same weights."""
    if weight.channels is not None and weight.channels.duplicates and not _constant(weight):
        groups = weight.channels.duplicates
        count = sum(map(len, groups))
        yield (
            f"{count} of {weight.channels.outputs} output channels have the same weights as another, "
            f"{weight.channels.spare} could go: {_pairs(groups)}"
        )


@rule("scaled-outputs")
def scaled_outputs(weight: Weight) -> Iterator[str]:
    """Output channels that are another one times a factor."""
    if weight.channels is not None and weight.channels.scaled:
        groups = weight.channels.scaled
        count = sum(map(len, groups))
        yield (
            f"{count} of {weight.channels.outputs} output channels are another one times a factor: "
            f"{_pairs(groups)}"
        )


@rule("scale")
def scale(weight: Weight) -> Iterator[str]:
    """A standard deviation far from any that a usual initialisation or training leaves."""
    low, high = USUAL_SCALE
    ratio = weight.he
    if weight.role == "table" or ratio is None or _constant(weight) or low <= ratio <= high:
        return
    yield (
        f"std {number(weight.spread.std or 0)} is {number(ratio)} times that of He's initialisation "
        f"({number(weight.xavier or 0)} times Xavier's): {low:g} to {high:g} is usual"
    )


@rule("sparse")
def sparse(weight: Weight) -> Iterator[str]:
    """Most numbers are exactly zero."""
    seen = weight.spread
    if weight.channels is not None and seen.sparsity >= SPARSE_SHARE and not _constant(weight):
        yield f"{percent(seen.sparsity)} of the values are exactly 0"


@rule("clipped")
def clipped(weight: Weight) -> Iterator[str]:
    """Many more numbers than these two are the smallest or largest: clipped weights, or few levels."""
    seen = weight.spread
    if (
        weight.channels is not None
        and seen.count >= MIN_NUMBERS
        and weight.at_bounds - 2 / seen.count >= CLIPPED_SHARE
    ):
        ends = f"{number(seen.low)} and {number(seen.high)}"
        yield f"{percent(weight.at_bounds)} of the values lie at the bounds {ends}"


@rule("rank-deficient")
def rank_deficient(weight: Weight) -> Iterator[str]:
    """Fewer independent channels than there are, more of them than are zero: the rest is rounding."""
    found, seen = weight.spectrum, weight.channels
    if found is None or found.rank is None or seen is None or _constant(weight) or not found.norm:
        return
    if found.full - found.rank > len(seen.dead) + len(seen.dead_inputs):
        yield f"rank {found.rank} of {found.full}: the other singular values are below float32 rounding"


@rule("half-overflow")
def half_overflow(weight: Weight) -> Iterator[str]:
    """Numbers that float16 can't hold."""
    if weight.spread.peak > FLOAT16_MAX:
        yield f"magnitudes up to {number(weight.spread.peak)}: float16 ends at {FLOAT16_MAX:.0f}"


@rule("negative-variance")
def negative_variance(weight: Weight) -> Iterator[str]:
    """No variance is negative: batch norm would give NaN."""
    if weight.role == "variance" and weight.spread.finite and weight.spread.low < 0:
        yield f"as low as {number(weight.spread.low)}, and no variance is negative"


@rule("zero-scale")
def zero_scale(weight: Weight) -> Iterator[str]:
    """Channels that a normalisation switches off."""
    seen = weight.spread
    if weight.role == "scale" and seen.zeros and seen.count > 1:
        yield f"0 in {seen.zeros} of {seen.count} channels: their output is constant"


def _constant(weight: Weight) -> bool:
    """Whether the rule of that name has said all there is to say."""
    return weight.spread.low == weight.spread.high and weight.spread.count > 1


def listed(numbers: Sequence[int]) -> str:
    """The first few of many numbers, and how many more there are."""
    shown = ", ".join(map(str, numbers[:MAX_CHANNELS_NAMED]))
    return (
        f"{shown} and {len(numbers) - MAX_CHANNELS_NAMED} more"
        if len(numbers) > MAX_CHANNELS_NAMED
        else shown
    )


def _pairs(groups: Sequence[Sequence[int]]) -> str:
    shown = ", ".join(
        " = ".join(map(str, group[:MAX_CHANNELS_NAMED])) + " = ..." * (len(group) > MAX_CHANNELS_NAMED)
        for group in groups[:3]
    )
    return f"{shown} and {len(groups) - 3} more groups" if len(groups) > 3 else shown
