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
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.options import Real, combined, result_options_in, shape_options, source_options
from modelsurgeon_cli.rules import rule_table
from modelsurgeon_cli.show import FORMATS, check_outputs, check_weights, progress, show

if TYPE_CHECKING:
    from modelsurgeon.report.table import Table

MAX_FINDINGS_PER_RULE = 3  # in formats for people; --all shows the rest
HUMAN_FORMATS = ("table", "markdown", "html")
NEVER_FAIL = "never"


class FoundProblems(SurgeryError):
    """A finding reached the severity of `--fail-on`."""


class RuleList:
    """The list of rules as a result that can be shown."""

    def as_dict(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        return list(self.tables()[0].as_dict()["rows"])

    def tables(self) -> Sequence[Table]:
        """One table with a row per rule."""
        return [rule_table()]


def list_rules(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    """Print the rules and exit."""
    if given:
        show(RuleList(), "rules", format="table", output=None)
        ctx.exit()


def known_rules(_: click.Context, param: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    """The given rule ids, each with or without `:GLOB`; raises BadParameter for an unknown one."""
    from modelsurgeon.onnx.lint import unknown_rule

    for name in given:
        if problem := unknown_rule(name.partition(":")[0]):
            raise click.BadParameter(problem, param=param)
    return given


def as_sarif(report: Report, _title: str) -> str:
    """The report as SARIF 2.1.0."""
    return json.dumps(plain(report.sarif()), indent=2) + "\n"


def as_junit(report: Report, _title: str, fail_on: Severity | None) -> str:
    """The report as JUnit XML; findings of at least `fail_on` are failures."""
    return report.junit(fail_on)


rule_options = combined(
    click.option(
        "--select",
        multiple=True,
        callback=known_rules,
        metavar="RULE",
        help="Check only these rules. Repeatable.",
    ),
    click.option(
        "--ignore",
        multiple=True,
        callback=known_rules,
        metavar="RULE[:GLOB]",
        help="Skip these rules, or skip them for layers whose name matches. Repeatable.",
    ),
    click.option("--read-weights", is_flag=True, help="Check also the rules that read weights."),
    click.option(
        "--balance",
        type=Real(min=0, min_open=True),
        metavar="FLOPS_PER_BYTE",
        help="FLOPs that the machine can do per byte of memory traffic; 10 if not given.",
    ),
    click.option(
        "--rules",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=list_rules,
        help="List the rules and exit.",
    ),
)
view_options = combined(
    click.option(
        "--severity",
        type=click.Choice(SEVERITIES),
        default="note",
        show_default=True,
        help="Least severity of the findings shown.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice([*SEVERITIES, NEVER_FAIL]),
        default="error",
        show_default=True,
        help="Exit 1 if a finding has at least this severity.",
    ),
    click.option(
        "--all",
        "everything",
        is_flag=True,
        help=f"Show every finding, not only the worst {MAX_FINDINGS_PER_RULE} per rule.",
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
    **arguments: Any,  # noqa: ANN401 - the arguments of ms.check
) -> None:
    """Report what is wrong or unusual in MODEL.

    Rules check its structure: each finding has a severity, evidence in numbers, and advice. The model is
    not run. docs/rules.md describes every rule.
    """
    outputs = {"--output": output}
    check_outputs(outputs, {"MODEL": model, "--weights": weights, "--example": example})
    with progress(f"checking {model}", quiet=quiet):
        graph = load(model, weights=weights, shapes=shapes, example=example, trust=trust)
        check_weights(outputs, weight_files(graph))
        report = ms.check(graph, shapes=shapes, weights=read_weights, spend=True, **arguments)
    gate: Severity | None = None if fail_on == NEVER_FAIL else SEVERITIES[SEVERITIES.index(fail_on)]
    shown = report.at_least(severity)
    if format in HUMAN_FORMATS and not everything:
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
    """A sentence with the first finding that failed the gate, and the number of others."""
    first = found[0]
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"{first.rule} at {first.layer!r}{others}: "
        f"--fail-on {gate} allows none; fix them, or --ignore those that are intended"
    )
