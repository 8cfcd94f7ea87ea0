"""The outlook of a dry run: what a cut costs and what low rank can do for the model, in words and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelsurgeon.compression.compressibility import Compressibility, LayerKind
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import percent
from modelsurgeon.report.table import Table

MIN_SHARE = 0.005  # of a kind's MACs in incompressible layers: less is not mentioned
HOLDING_ENERGY = 0.9  # product of the kept shares of all weights, up from which the outputs may hold
# Relative L2 at the outputs, up to which the words hold.
ERROR_WORDS = (
    (0.05, "the outputs hardly change"),
    (0.2, "the outputs change; evaluate the metric of the task"),
    (0.5, "the outputs change much, and the metric of the task will suffer"),
    (float("inf"), "the outputs will hardly resemble those of the original"),
)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Compressibility in words: `net` says what low rank can do for the model, `cost` what the cut costs."""

    compressibility: Compressibility

    @property
    def cost(self) -> str:
        """What the cut will cost."""
        return _cost(self.compressibility)

    @property
    def net(self) -> str:
        """What low rank can do for the model, with the evidence."""
        return _verdict(self.compressibility)

    def as_dict(self) -> dict[str, Any]:
        """The outlook as plain JSON data."""
        kinds = [kind.as_dict() for kind in self.compressibility.kinds]
        return {"kinds": kinds, "cost": self.cost, "net": self.net}

    def table(self, *, cost: bool = True) -> Table:
        """A row per kind of layers, with the words below. cost: also those about the cut."""
        found = self.compressibility
        columns = [
            Column(key="kind", title="layers"),
            Column(key="layers", title="number", kind="int"),
            Column(key="share", title="of all MACs", kind="percent"),
            Column(key="lost", title=f"{_measured(found)} lose at half", kind="percent"),
            Column(key="barren", title="no rank leaves half", kind="percent", wide=True),
        ]
        rows = [kind.as_dict() for kind in found.kinds]
        notes = [self.net, *([self.cost] if cost else [])]
        return Table(title="Outlook", columns=columns, rows=rows, notes=notes)


def _measured(found: Compressibility) -> str:
    """Of what the errors are."""
    return "weights" if found.predicted is None else "outputs"


def _cost(found: Compressibility) -> str:
    """What the cut will cost."""
    if found.predicted is not None:
        words = next((text for most, text in ERROR_WORDS if found.predicted <= most), ERROR_WORDS[-1][1])
        return f"this cut: a relative L2 of {found.predicted:.3g} is predicted at the outputs: {words}"
    holds = found.kept_energy >= HOLDING_ENERGY
    words = "the outputs may hold" if holds else "as it is, the outputs will hardly hold"
    return (
        f"this cut: {percent(found.kept_energy)} of the energy survives its {found.cut_weights} weights, "
        f"one after another: {words}; give --data to refit the factors, and to have the error at "
        "the outputs predicted"
    )


def _verdict(found: Compressibility) -> str:
    """What low rank can do for the model, with the evidence."""
    if found.verdict == "irreplaceable":
        return "there is no layer here that could be replaced"
    if (blocks := found.blocks) is not None:
        share = f"this net is factorized already: {percent(blocks.share)} of its MACs are in {blocks.kind}"
        if found.verdict == "factorized":
            return f"{share}; {_evidence(blocks, found)}: low rank can't pay here; {_alternative(found)}"
        return f"{share}, yet {_evidence(blocks, found)}: low rank still pays, if less than in other nets"
    loss = (
        f"half of the MACs of all layers would cost {percent(found.loss)} of the energy of their "
        f"{_measured(found)}"
    )
    if found.verdict == "uncertain":
        return f"{loss}; that of their outputs is mostly far less, but only samples show it: give --data"
    return f"{loss}: {'low rank costs much here' if found.verdict == 'lossy' else 'low rank pays here'}"


def _evidence(kind: LayerKind, found: Compressibility) -> str:
    if kind.lost is None:
        return "no rank leaves half of those"
    loss = f"{percent(kind.lost)} of the energy of their {_measured(found)}"
    noise = " (noise would lose 40 %)" if found.loses_like_noise else ""
    if kind.incompressible and kind.incompressible > MIN_SHARE:
        share = percent(kind.incompressible)
        return f"no rank leaves half of {share} of those, half of the rest costs {loss}{noise}"
    return f"half of those costs {loss}{noise}"


def _alternative(found: Compressibility) -> str:
    if found.predicted is None:
        return "with --data hidden channels can be left out instead, by the method channels"
    if found.selects_channels:
        return "hidden channels are left out instead, by the method channels"
    return "keep more of it, or leave it as it is"
