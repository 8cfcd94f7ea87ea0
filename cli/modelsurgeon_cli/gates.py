"""Gates of `info`: what a model may cost at most, and what happens where it costs more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from modelsurgeon.errors import GateMissed
from modelsurgeon_cli.options import amount, together

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis

GATES = {"macs": "5G", "params": "10M", "param_bytes": "20MB", "activation_bytes": "20MB"}  # with examples

gate_options = together(
    *(
        click.option(
            f"--max-{name.replace('_', '-')}",
            callback=amount,
            metavar="AMOUNT",
            help=f"Exit 1 if {name} is more than this, as {example}.",
        )
        for name, example in GATES.items()
    ),
    click.option("--strict", is_flag=True, help="Exit 1 if anything is uncounted."),
)


def hold(found: Mapping[str, Analysis], limits: Mapping[str, float | None], *, strict: bool) -> None:
    """Raise GateMissed for the models that cost more than they may, all in one line. found: by path."""
    missed = {
        path: [*over_limits(one, limits), *(not_counted(one) if strict else [])]
        for path, one in found.items()
    }
    if any(missed.values()):
        raise GateMissed("; ".join(f"{path}: {'; '.join(told)}" for path, told in missed.items() if told))


def over_limits(analysis: Analysis, limits: Mapping[str, float | None]) -> list[str]:
    """What is more than its limit, in words."""
    found = []
    for name in GATES:
        limit, value = limits[f"max_{name}"], getattr(analysis.totals, name)
        if limit is not None and value > limit:
            found.append(f"{name} is {value}, --max-{name.replace('_', '-')} is {limit:.0f}")
    return found


def not_counted(analysis: Analysis) -> list[str]:
    """The operators that aren't counted, in words."""
    ops = ", ".join(entry.op for entry in analysis.uncounted)
    return [f"uncounted operators: {ops}"] if ops else []
