"""Several models side by side: their totals in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from os.path import commonpath
from pathlib import PurePath
from typing import Any

from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

COLUMNS = (
    Column(key="model", title="Model"),
    Column(key="macs", title="MACs", kind="count"),
    Column(key="flops", title="FLOPs", kind="count", wide=True),
    Column(key="params", title="Params", kind="count"),
    Column(key="param_bytes", title="Weights", kind="bytes"),
    Column(key="activation_bytes", title="Activations", kind="bytes"),
    Column(key="peak_activation_bytes", title="Peak", kind="bytes"),
    Column(key="nodes", title="Nodes", kind="int"),
)


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The analyses of several models, in the order in which they were given."""

    analyses: Sequence[Analysis]

    def as_dict(self) -> list[dict[str, Any]]:
        """The JSON of each analysis, in a list."""
        return [found.as_dict() for found in self.analyses]

    def tables(self) -> list[Table]:
        """One row of totals for each model."""
        names = distinct_names([str(found.model.get("path") or "model") for found in self.analyses])
        rows = [
            {"model": name, **asdict(found.totals)} for name, found in zip(names, self.analyses, strict=True)
        ]
        notes = [
            note for name, found in zip(names, self.analyses, strict=True) for note in _notes(name, found)
        ]
        return [Table(title="Totals", columns=COLUMNS, rows=rows, notes=notes)]


def _notes(name: str, found: Analysis) -> Iterator[str]:
    if found.defaults:
        yield f"{name}: shown for " + ", ".join(f"{key} = {size}" for key, size in found.defaults.items())
    if left_out := [str(gap) for gap in found.gaps if not gap.assumed]:
        yield f"{name}: totals are at least that, they leave out {'; '.join(left_out)}"
    elif found.uncounted:
        yield f"{name}: not counted are {', '.join(entry.op for entry in found.uncounted)}"


def distinct_names(paths: Sequence[str]) -> list[str]:
    """File names or, where two are the same, paths relative to their common folder.

    >>> distinct_names(["a/x.onnx", "b/y.onnx"]), distinct_names(["m/a/x.onnx", "m/b/x.onnx"])
    (['x.onnx', 'y.onnx'], ['a/x.onnx', 'b/x.onnx'])
    """
    names = [PurePath(path).name for path in paths]
    if len(set(names)) == len(names) or len(set(paths)) < len(paths):
        return names
    try:
        common = commonpath(paths)
    except ValueError:  # on different drives, or one absolute and one relative
        return list(paths)
    return [str(PurePath(path).relative_to(common)) if common else path for path in paths]
