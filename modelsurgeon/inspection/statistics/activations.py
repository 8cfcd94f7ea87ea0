"""Statistics of a model's activations over data, with findings, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelsurgeon.inspection.statistics.activation import FLOAT16_MAX, FLOAT16_MIN_NORMAL, Activation
from modelsurgeon.inspection.statistics.remarks import Remark, listed
from modelsurgeon.inspection.statistics.weights import REMARK_COLUMNS
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import number, percent
from modelsurgeon.report.table import Table

SATURATED_SHARE = 0.5  # least share of values at the bounds
SUBNORMAL_SHARE = 0.5  # least share of non-zero values below float16's smallest normal number
MIN_CHANNEL_VALUES = 16  # values of a channel: fewer don't show that it never fires

ACTIVATION_COLUMNS = (
    Column(key="layer", title="Layer"),
    Column(key="op", title="Op", wide=True),
    Column(key="shape", title="Output", kind="shape", wide=True),
    Column(key="min", title="Min", kind="float"),
    Column(key="p1", title="1 %", kind="float", wide=True),
    Column(key="p50", title="50 %", kind="float", wide=True),
    Column(key="p99", title="99 %", kind="float", wide=True),
    Column(key="max", title="Max", kind="float"),
    Column(key="mean", title="Mean", kind="float"),
    Column(key="std", title="Std", kind="float"),
    Column(key="sparsity", title="Zeros", kind="percent"),
    Column(key="at_bounds", title="At bounds", kind="percent"),
    Column(key="dead", title="Dead", kind="int"),
    Column(key="channels", title="of", kind="int"),
)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Statistics of all observed activations, in file order. notes: on the data, and on omissions."""

    places: Sequence[Activation]
    samples: int
    notes: Sequence[str] = ()

    def among(self, layers: Collection[str]) -> Activations:
        """The activations of the layers of these names."""
        return replace(self, places=[one for one in self.places if one.place.layer in layers])

    @property
    def findings(self) -> list[Remark]:
        """The findings in all activations."""
        return [remark for activation in self.places for remark in _remarks(activation, self.samples)]

    def as_dict(self) -> list[dict[str, Any]]:
        """One entry for each activation, with its findings."""
        return [
            {
                **activation.as_dict(),
                "samples": self.samples,
                "findings": [
                    {"rule": remark.rule, "message": remark.message}
                    for remark in _remarks(activation, self.samples)
                ],
            }
            for activation in self.places
        ]

    def tables(self) -> list[Table]:
        """The activations, and the findings if there are any."""
        rows = list(map(_row, self.places))
        found = [Table(title="Activations", columns=ACTIVATION_COLUMNS, rows=rows, notes=self._notes())]
        if findings := self.findings:
            listing = [asdict(remark) for remark in findings]
            found.append(Table(title="Findings in the activations", columns=REMARK_COLUMNS, rows=listing))
        return found

    def _notes(self) -> list[str]:
        dead = "Dead: channels that were 0 in all of them; percentiles are within 1 % of their exact values"
        return [f"{self.samples} samples of data. {dead}", *self.notes]


def _row(activation: Activation) -> dict[str, Any]:
    shares = [share for share in (activation.at_low, activation.at_high) if share is not None]
    return {
        **activation.as_dict(),
        **{f"p{level:g}": value for level, value in activation.percentiles.items()},
        "at_bounds": sum(shares) if shares else None,
        "dead": len(activation.dead) if activation.channels else None,
        "channels": activation.channels or None,
    }


def _remarks(found: Activation, samples: int) -> list[Remark]:
    messages = [
        *(("nan-or-inf", message) for message in _nonfinite(found)),
        *(("dead-units", message) for message in _dead(found, samples)),
        *(("constant-units", message) for message in _constant(found, samples)),
        *(("saturated", message) for message in _saturated(found)),
        *(("half-overflow", message) for message in _overflow(found)),
        *(("half-subnormal", message) for message in _subnormal(found)),
    ]
    return [Remark(layer=found.place.layer, rule=rule, message=message) for rule, message in messages]


def _nonfinite(found: Activation) -> Iterator[str]:
    seen = found.spread
    counts = [f"{count} {name}" for name, count in (("NaN", seen.nan), ("Inf", seen.inf)) if count]
    if counts:
        yield f"{' and '.join(counts)} among {seen.count} values"


def _dead(found: Activation, samples: int) -> Iterator[str]:
    if found.dead and found.seen >= MIN_CHANNEL_VALUES:
        which = listed(found.dead)
        yield f"{len(found.dead)} of {found.channels} channels never fire in {samples} samples: {which}"


def _constant(found: Activation, samples: int) -> Iterator[str]:
    if found.constant and found.seen >= MIN_CHANNEL_VALUES:
        which = listed(found.constant)
        yield f"{len(found.constant)} of {found.channels} channels never change in {samples} samples: {which}"


def _saturated(found: Activation) -> Iterator[str]:
    """Values at the bounds; the zeros of a rectifier don't count, because it is meant to give them."""
    bounds = found.place.bounds
    if bounds is None:
        return
    rectifies = bounds.low == 0 and not bounds.margin
    share = (found.at_high or 0.0) + (0.0 if rectifies else found.at_low or 0.0)
    if share >= SATURATED_SHARE:
        ends = [end for end in (None if rectifies else bounds.low, bounds.high) if end is not None]
        where = " and ".join(number(end) for end in ends)
        yield f"{percent(share)} of the values are at the bounds of {found.place.op} ({where})"


def _overflow(found: Activation) -> Iterator[str]:
    if found.overflow and found.place.dtype != "float16":
        yield (
            f"magnitudes up to {number(found.spread.peak)}: the largest float16 is {FLOAT16_MAX:.0f}, "
            f"{percent(found.overflow)} of the values are larger"
        )


def _subnormal(found: Activation) -> Iterator[str]:
    if found.subnormal >= SUBNORMAL_SHARE:
        share, least = percent(found.subnormal), number(FLOAT16_MIN_NORMAL)
        yield f"{share} of the values that aren't 0 are smaller than {least}, where float16 loses digits"
