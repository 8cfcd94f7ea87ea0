"""Rows of an analysis sorted, grouped, nested or filtered; the totals of the model don't change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from modelsurgeon.errors import BadArgument, UnknownLayer
from modelsurgeon.inspection.rows import LayerRow, Totals
from modelsurgeon.report.formatting import percent

SORT_KEYS = (
    *("name", "op", "module", "dtype", "macs", "flops", "bias_adds", "params", "param_bytes"),
    *("output_bytes", "mac_share", "param_share", "intensity", "runs"),
)
GROUPS = ("op", "module")
SUMMED_KEYS = (
    "macs",
    "flops",
    "bias_adds",
    "params",
    "param_bytes",
    "output_bytes",
    "mac_share",
    "param_share",
)
OWN_ROW = "(own)"  # nodes of a module that are in none of its submodules


def in_order(rows: Sequence[LayerRow], key: str) -> list[LayerRow]:
    """Rows by one of SORT_KEYS: numbers from the largest down, unknown ones first; text from A to Z.

    Rows of a tree stay below the row that contains them. Raises BadArgument for any other key.
    """
    if key not in SORT_KEYS:
        raise BadArgument(f"layers are sorted by one of {', '.join(SORT_KEYS)}, not by {key!r}")
    blocks = sorted(_blocks(rows), key=lambda block: _sort_key(getattr(block[0], key)))
    return [row for head, *parts in blocks for row in (head, *(in_order(parts, key) if parts else ()))]


def _blocks(rows: Sequence[LayerRow]) -> list[list[LayerRow]]:
    """Each row of the highest level with the rows inside it."""
    blocks: list[list[LayerRow]] = []
    for row in rows:
        if not blocks or row.level <= blocks[0][0].level:
            blocks.append([])
        blocks[-1].append(row)
    return blocks


def grouped(rows: Sequence[LayerRow], key: str) -> list[LayerRow]:
    """One row for each op or module in place of one for each node, in order of first appearance.

    Raises BadArgument for a key that is not one of GROUPS.
    """
    if key not in GROUPS:
        raise BadArgument(f"layers are grouped by one of {', '.join(GROUPS)}, not by {key!r}")
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(str(getattr(row, key) or row.name), []).append(row)
    return [merged(name, inside) for name, inside in groups.items()]


def nested(rows: Sequence[LayerRow], depth: int) -> list[LayerRow]:
    """The modules as a tree of `depth` levels: each row is the sum of the rows one level below it.

    Modules are parts of a dotted path. Rows of level 0 add up to all rows; a node without a module is such a
    row.
    """
    return list(_branches(rows, 0, depth))


def _branches(rows: Sequence[LayerRow], level: int, depth: int) -> Iterator[LayerRow]:
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(_ancestor(row, level), []).append(row)
    for name, inside in groups.items():
        yield replace(merged(name, inside), level=level)
        if level + 1 < depth and any(len(_path(row)) > level + 1 for row in inside):
            yield from _branches(inside, level + 1, depth)


def _path(row: LayerRow) -> list[str]:
    return row.module.split(".") if row.module else []


def _ancestor(row: LayerRow, level: int) -> str:
    """The module of this level that a row belongs to."""
    path = _path(row)
    if not path:
        return row.name
    return ".".join(path[: level + 1]) if len(path) > level else f"{row.module}.{OWN_ROW}"


def merged(name: str, rows: Sequence[LayerRow]) -> LayerRow:
    """Several rows as one; a sum is None where a value of any row is None."""
    ops = {row.op for row in rows}
    return LayerRow(
        name=name,
        op=f"{len(rows)} nodes" if len(ops) > 1 else f"{len(rows)} {ops.pop()}",
        **{key: _known_sum([getattr(row, key) for row in rows]) for key in SUMMED_KEYS},
    )


def matching(
    rows: Sequence[LayerRow], only: Sequence[str], skip: Sequence[str], ops: Sequence[str]
) -> list[LayerRow]:
    """The rows whose name or module matches a glob of `only` and none of `skip`, and that are one of `ops`.

    An empty sequence doesn't filter. Raises UnknownLayer for a glob or an operator that matches no row.
    """
    for glob in (*only, *skip):
        if not any(_matches(row, glob) for row in rows):
            raise UnknownLayer(f"no layer or module is called {glob!r}: `info` prints the names")
    if missing := [op for op in ops if not any(fnmatchcase(row.op, op) for row in rows)]:
        found = ", ".join(sorted({row.op for row in rows}))
        raise UnknownLayer(f"no node is a {missing[0]!r}: this model has {found}")
    return [
        row
        for row in rows
        if (not only or any(_matches(row, glob) for glob in only))
        and not any(_matches(row, glob) for glob in skip)
        and (not ops or any(fnmatchcase(row.op, op) for op in ops))
    ]


def _matches(row: LayerRow, glob: str) -> bool:
    return fnmatchcase(row.name, glob) or (row.module is not None and fnmatchcase(row.module, glob))


def describe_share(rows: Sequence[LayerRow], totals: Totals) -> str:
    """A sentence with the share of MACs and params in some rows; rows inside others don't count again."""
    shown = [row for row in rows if row.level == min(one.level for one in rows)]
    sums = [
        (sum(getattr(row, key) or 0 for row in shown), getattr(totals, key)) for key in ("macs", "params")
    ]
    macs, params = (percent(part / (whole or 1)) for part, whole in sums)
    return f"{macs} of the MACs, {params} of the params"


def _known_sum(values: Sequence[Any]) -> Any:  # noqa: ANN401
    return None if None in values else sum(values)


def _sort_key(value: object) -> tuple[int, Any]:
    """Sort key: unknown values first, numbers from the largest down, text from A to Z."""
    if value is None:
        return (0, 0)
    return (1, -value) if isinstance(value, int | float) else (1, value)
