"""Gates of `info`: upper limits on the cost of a model, and the error if one is exceeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from modelsurgeon.errors import GateMissed
from modelsurgeon_cli.options import amount, combined

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis

GATES = {"macs": "5G", "params": "10M", "param_bytes": "20MB", "activation_bytes": "20MB"}  # with examples

gate_options = combined(
    *(
        click.option(
            f"--max-{name.replace('_', '-')}",
            callback=amount,
            metavar="AMOUNT",
            help=f"Exit 1 if {name} is more than this, such as {example}.",
        )
        for name, example in GATES.items()
    ),
    click.option("--strict", is_flag=True, help="Exit 1 if the cost of any operator is unknown."),
)


def check_gates(found: Mapping[str, Analysis], limits: Mapping[str, float | None], *, strict: bool) -> None:
    """Raise GateMissed if any model exceeds a limit, with one message for all. found: analyses by path."""
    missed = {
        path: [*over_limits(one, limits), *(not_counted(one) if strict else [])]
        for path, one in found.items()
    }
    if any(missed.values()):
        raise GateMissed(
            "; ".join(f"{path}: {'; '.join(reasons)}" for path, reasons in missed.items() if reasons)
        )


def over_limits(analysis: Analysis, limits: Mapping[str, float | None]) -> list[str]:
    """A phrase for each total above its limit."""
    found = []
    for name in GATES:
        limit, value = limits[f"max_{name}"], getattr(analysis.totals, name)
        if limit is not None and value > limit:
            found.append(f"{name} is {value}, --max-{name.replace('_', '-')} is {limit:.0f}")
    return found


def not_counted(analysis: Analysis) -> list[str]:
    """A phrase that lists the uncounted operators; none if all are counted."""
    ops = ", ".join(entry.op for entry in analysis.uncounted)
    return [f"uncounted operators: {ops}"] if ops else []
