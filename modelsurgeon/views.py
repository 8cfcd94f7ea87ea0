"""Rows of an analysis in another order or by other units; sums stay what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelsurgeon.rows import LayerRow

SORT_KEYS = (
    *("name", "op", "module", "dtype", "macs", "flops", "bias_adds", "params", "param_bytes"),
    *("output_bytes", "mac_share", "param_share", "intensity", "runs"),
)
GROUPS = ("op", "module")
SUMS = ("macs", "flops", "bias_adds", "params", "param_bytes", "output_bytes", "mac_share", "param_share")


def in_order(rows: Sequence[LayerRow], key: str) -> list[LayerRow]:
    """Rows by one of SORT_KEYS: numbers from the largest down, unknown ones first; text from A to Z."""
    if key not in SORT_KEYS:
        raise ValueError(f"layers are sorted by one of {', '.join(SORT_KEYS)}, not by {key!r}")
    return sorted(rows, key=lambda row: _rank(getattr(row, key)))


def grouped(rows: Sequence[LayerRow], key: str) -> list[LayerRow]:
    """One row for each op or module in place of one for each node, in order of first appearance."""
    if key not in GROUPS:
        raise ValueError(f"layers are grouped by one of {', '.join(GROUPS)}, not by {key!r}")
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(str(getattr(row, key) or row.name), []).append(row)
    return [merged(name, inside) for name, inside in groups.items()]


def merged(name: str, rows: Sequence[LayerRow]) -> LayerRow:
    """Several rows as one; what one of them doesn't know, the sum doesn't either."""
    ops = {row.op for row in rows}
    return LayerRow(
        name=name,
        op=f"{len(rows)} nodes" if len(ops) > 1 else f"{len(rows)} {ops.pop()}",
        **{key: _sum([getattr(row, key) for row in rows]) for key in SUMS},
    )


def _sum(values: Sequence[Any]) -> Any:  # noqa: ANN401
    return None if None in values else sum(values)


def _rank(value: object) -> tuple[int, Any]:
    """Sorts unknown values first, numbers from the largest down, text from A to Z."""
    if value is None:
        return (0, 0)
    return (1, -value) if isinstance(value, int | float) else (1, value)
