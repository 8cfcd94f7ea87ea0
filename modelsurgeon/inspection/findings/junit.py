"""Findings as JUnit XML, which build servers show as tests: one per finding, and one per rule without any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from modelsurgeon.inspection.findings.finding import Finding, Rule, Severity, reaches
from modelsurgeon.report import formatting


def document(path: str, rules: Sequence[Rule], findings: Sequence[Finding], fail_on: Severity | None) -> str:
    """One test suite for one file; findings milder than `fail_on` pass, with the message as test output."""
    failures = sum(_fails(finding, fail_on) for finding in findings)
    cases = [case for rule in rules for case in _cases(path, rule, findings, fail_on)]
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="0"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="modelsurgeon check" {counts}>\n'
        f"<testsuite name={_attribute(path)} {counts}>\n"
        f"{''.join(cases)}</testsuite>\n</testsuites>\n"
    )


def _cases(path: str, rule: Rule, findings: Sequence[Finding], fail_on: Severity | None) -> Iterator[str]:
    own = [finding for finding in findings if finding.rule == rule.id]
    if not own:
        yield f"<testcase classname={_attribute(path)} name={_attribute(rule.id)}/>\n"
    for finding in own:
        name = _attribute(f"{rule.id}: {finding.layer}")
        yield f"<testcase classname={_attribute(path)} name={name}>{_message(finding, fail_on)}</testcase>\n"


def _message(finding: Finding, fail_on: Severity | None) -> str:
    text = escape(f"{formatting.escape(finding.message)}\n{formatting.escape(finding.advice)}")
    if _fails(finding, fail_on):
        attributes = f"message={_attribute(finding.message)} type={_attribute(finding.severity)}"
        return f"<failure {attributes}>{text}</failure>"
    return f"<system-out>{escape(finding.severity)}: {text}</system-out>"


def _fails(finding: Finding, fail_on: Severity | None) -> bool:
    return fail_on is not None and reaches(finding.severity, fail_on)


def _attribute(text: str) -> str:
    """The text as a quoted attribute, without characters that XML can't hold."""
    return quoteattr(formatting.escape(text))
