"""Edits: what a surgery verb did to each layer or why it skipped it, as plain data and as tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

from modelsurgeon.errors import BadPlan
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import Kind, is_number
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from modelsurgeon.factorize import Rank


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Edit of one layer by a surgery verb, or the reason why the layer was skipped.

    layer: its name, as `info` prints it. action: one or two words, such as "fold". skipped: the reason why
    the layer was left as it is, or None. details: other facts, by JSON key.
    """

    layer: str
    action: str
    skipped: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The edit as plain JSON data."""
        return {"layer": self.layer, "action": self.action, **self.details, "skipped": self.skipped}


@dataclass(frozen=True, kw_only=True)
class FactorizationEdit:
    """Edit of one layer by compression: method, rank, costs and errors; or the reason why it was skipped.

    skipped: the reason why the layer was left as it is, or None. rank: a number, or a pair [outputs, inputs].
    macs, params: of the layer and of the chain in its place. milliseconds: the same, measured on one thread;
    None where they weren't. error: of the weight. own_error: of the layer's outputs as predicted from
    calibration, if it alone were cut. output_error: of the layer's outputs in the cut model on validation
    samples, with all errors of the layers before it. Errors are relative (Frobenius).
    """

    layer: str
    action: str = "factorize"
    method: str | None = None
    rank: Rank | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    milliseconds_before: float | None = None
    milliseconds_after: float | None = None
    params_before: int | None = None
    params_after: int | None = None
    error: float | None = None
    own_error: float | None = None
    output_error: float | None = None
    skipped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The edit as plain JSON data."""
        return asdict(self) | {"rank": list(self.rank) if isinstance(self.rank, tuple) else self.rank}


class SkippedEdit(Protocol):
    """An edit with the reason why a layer was skipped."""

    @property
    def layer(self) -> str:
        """The layer's name."""

    @property
    def skipped(self) -> str | None:
        """The reason, or None."""


def exclusion_reason(layer: str, only: Sequence[str], skip: Sequence[str]) -> str | None:
    """The reason why the user excludes this layer, or None. only, skip: globs on layer names."""
    if only and not any(fnmatchcase(layer, glob) for glob in only):
        return "not among those asked for (--only)"
    if any(fnmatchcase(layer, glob) for glob in skip):
        return "left out as asked (--skip)"
    return None


def check_globs(names: Collection[str], globs: Iterable[str]) -> None:
    """Raise BadPlan for a glob that matches no layer's name."""
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise BadPlan(f"no layer is called {glob!r}; `info` prints the names")


def tables(edits: Sequence[Edit], notes: Sequence[str] = ()) -> list[Table]:
    """A table of the edits, a row per layer, and one of the skipped layers, a row per reason."""
    done = [edit for edit in edits if edit.skipped is None]
    skipped = [edit for edit in edits if edit.skipped is not None]
    found = [_edits_table(done, notes)] if done or notes or not skipped else []
    return found + ([skipped_table(skipped)] if skipped else [])


def skipped_table(edits: Sequence[SkippedEdit]) -> Table:
    """A table of skipped layers, one row per reason, so that many small layers don't fill the report."""
    layers: dict[str, list[str]] = defaultdict(list)
    for edit in edits:
        layers[str(edit.skipped)].append(edit.layer)
    columns = [
        Column(key="count", title="layers", kind="int"),
        Column(key="reason", title="left alone because", kind="prose"),
        Column(key="such", title="such as"),
    ]
    rows = [{"count": len(names), "reason": why, "such": names[0]} for why, names in layers.items()]
    return Table(title="Layers left alone", columns=columns, rows=rows)


def _edits_table(edits: Sequence[Edit], notes: Sequence[str]) -> Table:
    rows = [edit.as_dict() for edit in edits]
    keys = dict.fromkeys(key for edit in edits for key in edit.details)
    columns = [
        Column(key="layer", title="layer"),
        Column(key="action", title="action"),
        *(Column(key=key, title=key.replace("_", " "), kind=_column_kind(rows, key)) for key in keys),
    ]
    return Table(title="Edits", columns=columns, rows=rows, notes=notes or ([] if rows else ["none"]))


def _column_kind(rows: Sequence[Mapping[str, Any]], key: str) -> Kind:
    """The kind of a column, from the types of its values."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not all(is_number(value) for value in values):
        return "shape" if all(isinstance(value, list | tuple) for value in values) else "text"
    return "int" if all(isinstance(value, int) for value in values) else "float"
