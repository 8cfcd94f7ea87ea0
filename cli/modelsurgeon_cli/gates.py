"""Gates of `info`: upper limits on the cost of a model, and the error if one is exceeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from modelsurgeon.errors import GateMissed
from modelsurgeon_cli.options import amount, combined

if TYPE_CHECKING:
    from modelsurgeon.inspection.analysis import Analysis
    from modelsurgeon.inspection.rows import Gap

GATES = {"macs": "5G", "params": "10M", "param_bytes": "20MB", "activation_bytes": "20MB"}  # with examples
MAX_GAPS_NAMED = 3  # in the message; the output has all

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
    click.option("--strict", is_flag=True, help="Exit 1 if a total leaves anything out."),
)


def check_gates(found: Mapping[str, Analysis], limits: Mapping[str, float | None], *, strict: bool) -> None:
    """Raise GateMissed if any model misses a gate, with one message for all. found: analyses by path.

    A limit holds only for a total that leaves nothing out. strict: no total may leave anything out.
    """
    missed = {
        path: [*over_limits(one, limits), *(left_out(one.gaps) if strict else [])]
        for path, one in found.items()
    }
    if any(missed.values()):
        raise GateMissed(
            "; ".join(
                f"{path}: {'; '.join(dict.fromkeys(reasons))}" for path, reasons in missed.items() if reasons
            )
        )


def over_limits(analysis: Analysis, limits: Mapping[str, float | None]) -> list[str]:
    """A phrase for each total above its limit, and for each that may be, as it leaves something out."""
    found = []
    for name in GATES:
        limit, value = limits[f"max_{name}"], getattr(analysis.totals, name)
        if limit is None:
            continue
        gaps = analysis.left_out(name)
        least = "at least " if name in analysis.lower_bounds else ""
        if value > limit:
            found.append(f"{name} is {least}{value}, --max-{name.replace('_', '-')} is {limit:.0f}")
        elif gaps:
            found += [f"{name} is {least}{value}, which may miss the gate", *left_out(gaps)]
    return found


def left_out(gaps: Sequence[Gap]) -> list[str]:
    """A phrase that names the first things that are left out; none if nothing is."""
    if not gaps:
        return []
    more = len(gaps) - MAX_GAPS_NAMED
    rest = f" and {more} more" if more > 0 else ""
    what = " or ".join(dict.fromkeys("assumed" if gap.assumed else "left out" for gap in gaps))
    return [f"{what}: {', '.join(map(str, gaps[:MAX_GAPS_NAMED]))}{rest}"]
