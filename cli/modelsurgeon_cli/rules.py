"""docs/rules.md, made from the rules themselves: `python -m modelsurgeon_cli.rules > docs/rules.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from modelsurgeon.inspection.findings import SEVERITIES
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from modelsurgeon.inspection.findings import Rule

RULE_COLUMNS = (
    Column(key="id", title="Rule"),
    Column(key="severity", title="Severity"),
    Column(key="summary", title="What it finds", kind="prose"),
)
PAGE_HEAD = """# What `check` looks for

Made from the rules by `python -m modelsurgeon_cli.rules > docs/rules.md`; a test compares.

An *error* makes answers wrong or random.
A *warning* tells of something that is lost or wasted, a *note* of what stands out and may be meant.
`modelsurgeon check MODEL` exits with 1 on errors; `--fail-on warning` is stricter.
`--ignore RULE` leaves a rule out, `--ignore 'RULE:GLOB'` leaves it out for layers of such names.
Sizes that the model leaves open are taken at stated defaults, and nothing is told of the edges of such maps.

"""
SENTENCE = re.compile(r"(?<=[.]) (?=[A-Z])")


def rules() -> list[Rule]:
    """All rules, the gravest first."""
    from modelsurgeon.onnx.lint import RULES

    return sorted(RULES.values(), key=lambda rule: SEVERITIES.index(rule.severity))


def rule_table() -> Table:
    """One row for each rule."""
    return Table(title="Rules", columns=RULE_COLUMNS, rows=[vars(rule) for rule in rules()])


def page() -> str:
    """The page, with one entry for each rule."""
    return PAGE_HEAD + "\n".join(["\n".join(_line(rule) for rule in rules()), "", *map(_entry, rules())])


def _line(rule: Rule) -> str:
    return f"- [`{rule.id}`](#{rule.id}) ({rule.severity}): {rule.summary}"


def _entry(rule: Rule) -> str:
    marks = ", ".join([rule.severity, *_marks(rule)])
    texts = (f"*{marks}*: {rule.summary}.", rule.detail, f"What to do: {rule.general_advice}")
    return "\n\n".join([f"## {rule.id}", *(SENTENCE.sub("\n", text) for text in texts)]) + "\n"


def _marks(rule: Rule) -> Iterable[str]:
    if rule.bottleneck:
        yield "shown by `info`"
    if rule.weights:
        yield "with `--read-weights`"


if __name__ == "__main__":
    click.echo(page(), nl=False)
