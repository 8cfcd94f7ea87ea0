"""`modelsurgeon check`: a linter for neural networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import modelsurgeon as ms
from modelsurgeon.api.models import weight_files
from modelsurgeon.errors import SurgeryError
from modelsurgeon.inspection.findings import SEVERITIES, Report, Severity
from modelsurgeon.report.formatting import plain
from modelsurgeon_cli.options import Real, result_options_in, shape_options, source_options, together
from modelsurgeon_cli.rules import rule_table
from modelsurgeon_cli.show import FORMATS, check_outputs, check_weights, progress, show

if TYPE_CHECKING:
    from modelsurgeon.report.table import Table

MAX_FINDINGS_PER_RULE = 3  # findings of one rule that a page for people shows; --all shows the rest
FOR_PEOPLE = ("table", "markdown", "html")
NEVER_FAIL = "never"


class FoundProblems(SurgeryError):
    """The rules found what the gate doesn't let pass."""


class RuleList:
    """The rules as a result that can be shown."""

    def as_dict(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        return list(self.tables()[0].as_dict()["rows"])

    def tables(self) -> Sequence[Table]:
        """One table."""
        return [rule_table()]


def list_rules(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the rules and end."""
    if asked:
        show(RuleList(), "rules", format="table", output=None)
        ctx.exit()


def known(_: click.Context, param: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    """Ids of rules, each with a glob of layers behind a colon or without."""
    from modelsurgeon.onnx.lint import unknown_rule

    for name in given:
        if problem := unknown_rule(name.partition(":")[0]):
            raise click.BadParameter(problem, param=param)
    return given


def as_sarif(report: Report, _title: str) -> str:
    """SARIF 2.1.0."""
    return json.dumps(plain(report.sarif()), indent=2) + "\n"


def as_junit(report: Report, _title: str, fail_on: Severity | None) -> str:
    """JUnit XML, in which what reaches the gate fails."""
    return report.junit(fail_on)


rule_options = together(
    click.option(
        "--select", multiple=True, callback=known, metavar="RULE", help="Only these rules. Repeatable."
    ),
    click.option(
        "--ignore",
        multiple=True,
        callback=known,
        metavar="RULE[:GLOB]",
        help="Not these rules, or not at layers of these names. Repeatable.",
    ),
    click.option("--read-weights", is_flag=True, help="Ask the rules that read weights, too."),
    click.option(
        "--balance",
        type=Real(min=0, min_open=True),
        metavar="FLOPS_PER_BYTE",
        help="FLOPs that the machine does while it moves a byte; 10 where it isn't told.",
    ),
    click.option(
        "--rules",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=list_rules,
        help="Say what is looked for, and exit.",
    ),
)
view_options = together(
    click.option(
        "--severity",
        type=click.Choice(SEVERITIES),
        default="note",
        show_default=True,
        help="The mildest finding that is shown.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice([*SEVERITIES, NEVER_FAIL]),
        default="error",
        show_default=True,
        help="Exit 1 if a finding is at least this grave.",
    ),
    click.option(
        "--all",
        "everything",
        is_flag=True,
        help=f"Every finding, not the worst {MAX_FINDINGS_PER_RULE} of a rule.",
    ),
)


@click.command(epilog="Example: modelsurgeon check model.onnx --ignore dropout-left")
@click.argument("model")
@rule_options
@view_options
@shape_options
@source_options
@result_options_in([*FORMATS, "sarif", "junit"])
def command(
    model: str,
    severity: Severity,
    fail_on: str,
    everything: bool,
    read_weights: bool,
    shapes: dict[str, tuple[int, ...]],
    weights: str | None,
    example: str | None,
    trust: bool,
    format: str,
    output: str | None,
    quiet: bool,
    **asked: Any,  # noqa: ANN401 - named and meant as those of ms.check
) -> None:
    """Say what is wrong with MODEL, or stands out in it.

    Rules look at its structure: each finding has a severity, its evidence in numbers, and what to do about
    it. Nothing is run. docs/rules.md tells every rule.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"MODEL": model, "--weights": weights, "--example": example})
    with progress(f"checking {model}", quiet=quiet):
        graph = ms.load(model, weights=weights, shapes=shapes, example=example, trust=trust)
        check_weights(outputs, weight_files(graph))
        report = ms.check(graph, shapes=shapes, weights=read_weights, spend=True, **asked)
    gate: Severity | None = None if fail_on == NEVER_FAIL else SEVERITIES[SEVERITIES.index(fail_on)]
    shown = report.at_least(severity)
    if format in FOR_PEOPLE and not everything:
        shown = shown.brief(MAX_FINDINGS_PER_RULE)
    formats: Mapping[str, Callable[[Report, str], str]] = {
        **FORMATS,
        "sarif": as_sarif,
        "junit": partial(as_junit, fail_on=gate),
    }
    show(shown, f"check {Path(model).name}", format=format, output=output, formats=formats)
    if gate is not None and (found := report.reaching(gate)):
        raise FoundProblems(f"{model}: {gate_message(found, gate)}")


def gate_message(found: Sequence[Any], gate: Severity) -> str:
    """What reached the gate, in words."""
    first = found[0]
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"{first.rule} at {first.layer!r}{others}: "
        f"--fail-on {gate} lets none pass; mend them, or --ignore what is meant"
    )
