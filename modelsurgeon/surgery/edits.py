"""What a surgery verb did to each layer, and how a person is told."""

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
    """What became of one layer, as `info` names it. skipped: the reason why it was left alone.

    action: one or two words, such as "fold". details: what else there is to tell, by JSON key.
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
    """What became of one layer. `skipped` is the reason why it was left alone.

    milliseconds: measured on one thread, None where they weren't. error: of the weight. own_error: of the
    layer's outputs as calibration foretells it, if it alone were cut. output_error: of the layer's outputs in
    the cut net, on samples that nothing was fitted to: all that was lost up to here. All relative.
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
    """An edit that tells why a layer was left alone."""

    @property
    def layer(self) -> str:
        """Its name."""

    @property
    def skipped(self) -> str | None:
        """The reason."""


def exclusion_reason(layer: str, only: Sequence[str], skip: Sequence[str]) -> str | None:
    """The reason why the user wants this layer left alone, or None. only, skip: globs on names."""
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
    """What was done, a row per layer; and what was left alone, a row per reason."""
    done = [edit for edit in edits if edit.skipped is None]
    kept = [edit for edit in edits if edit.skipped is not None]
    found = [_edits_table(done, notes)] if done or notes or not kept else []
    return found + ([skipped_table(kept)] if kept else [])


def skipped_table(edits: Sequence[SkippedEdit]) -> Table:
    """One row a reason, so that a hundred small layers don't bury what was done."""
    layers: dict[str, list[str]] = defaultdict(list)
    for edit in edits:
        layers[str(edit.skipped)].append(edit.layer)
    columns = [
        Column(key="count", title="layers", kind="int"),
        Column(key="reason", title="left alone because", kind="prose"),
        Column(key="such", title="such as"),
    ]
    rows = [{"count": len(n), "reason": why, "such": n[0]} for why, n in layers.items()]
    return Table(title="Layers left alone", columns=columns, rows=rows)


def _edits_table(edits: Sequence[Edit], notes: Sequence[str]) -> Table:
    rows = [edit.as_dict() for edit in edits]
    keys = dict.fromkeys(key for edit in edits for key in edit.details)
    columns = [
        Column(key="layer", title="layer"),
        Column(key="action", title="action"),
        *(Column(key=key, title=key.replace("_", " "), kind=_kind(rows, key)) for key in keys),
    ]
    return Table(title="Edits", columns=columns, rows=rows, notes=notes or ([] if rows else ["none"]))


def _kind(rows: Sequence[Mapping[str, Any]], key: str) -> Kind:
    values = [row[key] for row in rows if row.get(key) is not None]
    if not all(is_number(value) for value in values):
        return "shape" if all(isinstance(value, list | tuple) for value in values) else "text"
    return "int" if all(isinstance(value, int) for value in values) else "float"
