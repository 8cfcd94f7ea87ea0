"""The activations of a model over data, and what stands out among them, as JSON and as tables."""

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

SATURATED_SHARE = 0.5  # share of numbers at the bounds
SUBNORMAL_SHARE = 0.5  # share of non-zero numbers below float16's smallest normal one
MIN_CHANNEL_VALUES = 16  # numbers of a channel: of fewer, nobody can say that it never fires

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
    """All activations that were watched, in file order. notes: what wasn't, and what the data were."""

    places: Sequence[Activation]
    samples: int
    notes: Sequence[str] = ()

    def among(self, layers: Collection[str]) -> Activations:
        """The activations of the layers of these names."""
        return replace(self, places=[one for one in self.places if one.place.layer in layers])

    @property
    def findings(self) -> list[Remark]:
        """What stands out."""
        return [remark for place in self.places for remark in _remarks(place, self.samples)]

    def as_dict(self) -> list[dict[str, Any]]:
        """One entry for each activation, with what stands out in it."""
        return [
            {
                **place.as_dict(),
                "samples": self.samples,
                "findings": [
                    {"rule": remark.rule, "message": remark.message}
                    for remark in _remarks(place, self.samples)
                ],
            }
            for place in self.places
        ]

    def tables(self) -> list[Table]:
        """The activations, and what stands out."""
        rows = list(map(_row, self.places))
        found = [Table(title="Activations", columns=ACTIVATION_COLUMNS, rows=rows, notes=self._told())]
        if findings := self.findings:
            listing = [asdict(remark) for remark in findings]
            found.append(
                Table(title="What stands out in the activations", columns=REMARK_COLUMNS, rows=listing)
            )
        return found

    def _told(self) -> list[str]:
        dead = "Dead: channels that were 0 in all of them; percentiles are off by less than 1 % of themselves"
        return [f"{self.samples} samples of data. {dead}", *self.notes]


def _row(place: Activation) -> dict[str, Any]:
    shares = [share for share in (place.at_low, place.at_high) if share is not None]
    return {
        **place.as_dict(),
        **{f"p{each:g}": value for each, value in place.percentiles.items()},
        "at_bounds": sum(shares) if shares else None,
        "dead": len(place.dead) if place.channels else None,
        "channels": place.channels or None,
    }


def _remarks(found: Activation, samples: int) -> list[Remark]:
    said = [
        *(("nan-or-inf", message) for message in _broken(found)),
        *(("dead-units", message) for message in _dead(found, samples)),
        *(("constant-units", message) for message in _constant(found, samples)),
        *(("saturated", message) for message in _saturated(found)),
        *(("half-overflow", message) for message in _overflow(found)),
        *(("half-subnormal", message) for message in _subnormal(found)),
    ]
    return [Remark(layer=found.place.layer, rule=rule, message=message) for rule, message in said]


def _broken(found: Activation) -> Iterator[str]:
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
    """A rectifier's zeros are its work; all other bounds end what a net can say."""
    bounds = found.place.bounds
    if bounds is None:
        return
    rectifies = bounds.low == 0 and not bounds.margin
    share = (found.at_high or 0.0) + (0.0 if rectifies else found.at_low or 0.0)
    if share >= SATURATED_SHARE:
        ends = [
            found_end
            for found_end in (None if rectifies else bounds.low, bounds.high)
            if found_end is not None
        ]
        where = " and ".join(number(end) for end in ends)
        yield f"{percent(share)} of the values lie at the bounds of {found.place.op} ({where})"


def _overflow(found: Activation) -> Iterator[str]:
    if found.overflow and found.place.dtype != "float16":
        yield (
            f"magnitudes up to {number(found.spread.peak)}: float16 ends at {FLOAT16_MAX:.0f}, "
            f"{percent(found.overflow)} of the values lie beyond"
        )


def _subnormal(found: Activation) -> Iterator[str]:
    if found.subnormal >= SUBNORMAL_SHARE:
        share, least = percent(found.subnormal), number(FLOAT16_MIN_NORMAL)
        yield f"{share} of the values that aren't 0 are smaller than {least}, where float16 loses digits"
