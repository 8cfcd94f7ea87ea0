"""docs/rules.md, generated from the rules: `python -m modelsurgeon_cli.rules > docs/rules.md`."""

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
    Column(key="summary", title="Summary", kind="prose"),
)
PAGE_HEAD = """# Rules of `check`

Generated from the rules by `python -m modelsurgeon_cli.rules > docs/rules.md`; a test compares.

An *error* makes outputs wrong or random.
A *warning* reports something that is lost or wasted, a *note* something unusual that may be intended.
`modelsurgeon check MODEL` exits with 1 on errors; `--fail-on warning` is stricter.
`--ignore RULE` skips a rule, `--ignore 'RULE:GLOB'` skips it for layers whose name matches.
Sizes that the model leaves open are taken at stated defaults, and no rule judges the edges of such maps.

"""
SENTENCE = re.compile(r"(?<=[.]) (?=[A-Z])")


def rules() -> list[Rule]:
    """All rules, the most severe first."""
    from modelsurgeon.onnx.lint import RULES

    return sorted(RULES.values(), key=lambda rule: SEVERITIES.index(rule.severity))


def rule_table() -> Table:
    """One row for each rule."""
    return Table(title="Rules", columns=RULE_COLUMNS, rows=[vars(rule) for rule in rules()])


def page() -> str:
    """The text of docs/rules.md: a list of all rules, and a section for each."""
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
