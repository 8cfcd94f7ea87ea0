"""The result of `diff`: differences between two models, layer by layer, as plain data that renders itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any, Literal

from modelsurgeon.inspection.rows import COST_TITLES, LayerRow, Totals
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

Kind = Literal["added", "removed", "changed", "replaced", "renamed", "same"]

COMPARED_TOTALS = ("macs", "params", "param_bytes", "output_bytes")
CHANGE_COLUMNS = (
    Column(key="change", title="Change"),
    Column(key="name", title="Layer"),
    Column(key="op", title="Op"),
    Column(key="macs_before", title="MACs", kind="count"),
    Column(key="macs_after", title="after", kind="count"),
    Column(key="params_before", title="Params", kind="count"),
    Column(key="params_after", title="after", kind="count"),
    Column(key="what", title="Difference", kind="prose"),
    Column(key="param_bytes_after", title="Weights after", kind="bytes", wide=True),
    Column(key="param_bytes_before", title="before", kind="bytes", wide=True),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A layer of one model and its counterpart in the other; a replaced layer has several rows there.

    what: the differences as sentences.
    """

    kind: Kind
    before: Sequence[LayerRow] = ()
    after: Sequence[LayerRow] = ()
    what: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name in the first model, or in the second if the layer is new."""
        return (self.before or self.after)[0].name

    @property
    def op(self) -> str:
        """The operator, or the old and the new one."""
        was, now = ("+".join(dict.fromkeys(row.op for row in rows)) for rows in (self.before, self.after))
        return f"{was} → {now}" if was and now and was != now else was or now

    def as_dict(self) -> dict[str, Any]:
        """Plain values with sums before and after; None where they aren't known or there is no layer."""
        sums = {
            f"{key}_{when}": _known_sum(rows, key)
            for key in COMPARED_TOTALS
            for when, rows in (("before", self.before), ("after", self.after))
        }
        return {
            "change": self.kind,
            "before": [row.name for row in self.before],
            "after": [row.name for row in self.after],
            "op_before": [row.op for row in self.before],
            "op_after": [row.op for row in self.after],
            **sums,
            "what": list(self.what),
        }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two models side by side.

    changes: every layer of both, in order. model: other differences between the files, as sentences. names:
    the paths of the two. everything: whether unchanged layers are shown too.
    """

    names: tuple[str, str]
    before: Totals
    after: Totals
    changes: Sequence[Change]
    model: Sequence[str] = ()
    notes: Sequence[str] = ()
    everything: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """The number of layers by kind of change."""
        return dict(Counter(change.kind for change in self.changes))

    @property
    def identical(self) -> bool:
        """Whether nothing differs but names of layers."""
        return not self.model and set(self.counts) <= {"same", "renamed"}

    def all(self) -> Difference:
        """The difference with unchanged layers shown too."""
        return replace(self, everything=True)

    @property
    def shown(self) -> list[Change]:
        """The changes that the tables and the JSON list."""
        return [change for change in self.changes if self.everything or change.kind != "same"]

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `modelsurgeon diff`."""
        return {
            "identical": self.identical,
            "before": {"path": self.names[0], "totals": asdict(self.before)},
            "after": {"path": self.names[1], "totals": asdict(self.after)},
            "model": list(self.model),
            "counts": dict(self.counts),
            "layers": [change.as_dict() for change in self.shown],
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """The changed layers, and the totals."""
        return [self._layers(), self._totals()]

    def _layers(self) -> Table:
        rows = [{**change.as_dict(), "name": change.name, "op": change.op} for change in self.shown]
        return Table(
            title=" → ".join(PurePath(name).name for name in self.names),
            columns=CHANGE_COLUMNS,
            rows=[{**row, "what": "; ".join(row["what"])} for row in rows],
            total={
                "change": "total",
                **{f"{key}_before": getattr(self.before, key) for key in ("macs", "params", "param_bytes")},
                **{f"{key}_after": getattr(self.after, key) for key in ("macs", "params", "param_bytes")},
            },
            notes=[self._counts_note(), *self.model, *self.notes],
        )

    def _counts_note(self) -> str:
        if self.identical:
            renamed = self.counts.get("renamed", 0)
            others = f" but the names of {renamed}" if renamed else ""
            return f"no difference in {len(self.changes)} nodes{others}"
        return ", ".join(f"{count} {kind}" for kind, count in self.counts.items())

    def _totals(self) -> Table:
        was, now = asdict(self.before), asdict(self.after)
        rows = [
            {"what": title, "before": was[key], "after": now[key], "ratio": _ratio(was[key], now[key])}
            for key, title in (COST_TITLES | {"nodes": "nodes"}).items()
        ]
        return Table(title="Totals", columns=TOTAL_COLUMNS, rows=rows)


TOTAL_COLUMNS = (
    Column(key="what", title="Sum of"),
    Column(key="before", title="before", kind="count"),
    Column(key="after", title="after", kind="count"),
    Column(key="ratio", title="after / before", kind="percent"),
)


def _known_sum(rows: Sequence[LayerRow], key: str) -> int | None:
    values = [getattr(row, key) for row in rows]
    return None if not values or None in values else sum(values)


def _ratio(was: int, now: int) -> float | None:
    return now / was if was else None
