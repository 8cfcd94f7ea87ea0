"""The report of `check`: findings, the most severe first, as plain data that renders itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from modelsurgeon.inspection.findings.finding import SEVERITIES, Finding, Rule, Severity, reaches
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import percent
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

FINDING_COLUMNS = (
    Column(key="severity", title="Severity"),
    Column(key="rule", title="Rule"),
    Column(key="layer", title="Layer"),
    Column(key="message", title="Finding", kind="prose"),
)
ADVICE_COLUMNS = (Column(key="rule", title="Rule"), Column(key="advice", title="What to do", kind="prose"))


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The share of the estimated run time in memory-bound nodes, on a machine of this balance.

    A node takes as long as the slower of its FLOPs and its bytes, at `balance` FLOPs per byte. Nodes count
    as they are in the file, unfused. Source: the roofline model, Williams, Waterman and Patterson, 2009.
    """

    balance: float
    memory_bound_share: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """The findings of the rules in one model.

    model: the file, its inputs and outputs. rules: those that were checked. notes: assumptions made.
    few: the largest number of findings of one rule that the tables show; None for all.
    """

    model: Mapping[str, Any]
    findings: Sequence[Finding]
    rules: Sequence[Rule]
    roofline: Roofline
    notes: Sequence[str] = ()
    few: int | None = None

    def at_least(self, severity: Severity) -> Report:
        """The report without milder findings; a note says how many were dropped."""
        kept = self.reaching(severity)
        milder = len(self.findings) - len(kept)
        notes = [f"{milder} milder findings aren't shown", *self.notes] if milder else self.notes
        return replace(self, findings=kept, notes=notes)

    def reaching(self, severity: Severity) -> list[Finding]:
        """The findings of at least this severity."""
        return [finding for finding in self.findings if reaches(finding.severity, severity)]

    def brief(self, few: int) -> Report:
        """The report with at most `few` findings of each rule in its tables; notes count the others."""
        return replace(self, few=few)

    def counts(self) -> dict[Severity, int]:
        """The number of findings of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `modelsurgeon check`."""
        return {
            "model": dict(self.model),
            "counts": self.counts(),
            "findings": [asdict(finding) for finding in self.findings],
            "rules": [rule.id for rule in self.rules],
            "roofline": asdict(self.roofline),
            "notes": list(self.notes),
        }

    def sarif(self) -> dict[str, Any]:
        """The findings as SARIF 2.1.0, which code hosts show next to the file."""
        from modelsurgeon.inspection.findings import sarif

        return sarif.document(self.path, self.rules, self.findings)

    def junit(self, fail_on: Severity | None = "error") -> str:
        """The rules as JUnit XML: findings of at least `fail_on` are failures; None: no failures."""
        from modelsurgeon.inspection.findings import junit

        return junit.document(self.path, self.rules, self.findings, fail_on)

    def tables(self) -> list[Table]:
        """The findings, and the advice of each rule's first finding."""
        found = [self._finding_table()]
        if self.findings:
            first = {finding.rule: finding for finding in reversed(self.findings)}
            rows = [vars(finding) for finding in reversed(first.values())]
            found.append(Table(title="What to do", columns=ADVICE_COLUMNS, rows=rows))
        return found

    def __rich__(self) -> RenderableType:
        """The tables one below the other, for rich."""
        from modelsurgeon.report.text_layout import stacked

        return stacked(self.tables())

    @property
    def path(self) -> str:
        """The model's file; `model` where it wasn't read from one."""
        return str(self.model.get("path") or "model")

    def _finding_table(self) -> Table:
        by_rule: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_rule.setdefault(finding.rule, []).append(finding)
        return Table(
            title=PurePath(self.path).name,
            columns=FINDING_COLUMNS,
            rows=[vars(finding) for found in by_rule.values() for finding in found[: self.few]],
            notes=[*self._hidden_notes(by_rule), self._counts_note(), self._roofline_note(), *self.notes],
        )

    def _hidden_notes(self, by_rule: Mapping[str, Sequence[Finding]]) -> list[str]:
        """Notes on the findings that the table leaves out."""
        more = {
            rule: len(found[self.few :]) if self.few is not None else 0 for rule, found in by_rule.items()
        }
        return [f"{rule}: {count} more like these" for rule, count in more.items() if count]

    def _counts_note(self) -> str:
        counts = [_plural(count, name) for name, count in self.counts().items()]
        return f"{_plural(len(self.rules), 'rule')}: {', '.join(counts)}"

    def _roofline_note(self) -> str:
        share, balance = percent(self.roofline.memory_bound_share), f"{self.roofline.balance:g}"
        return f"{share} of the time is in memory-bound nodes, at {balance} FLOPs per byte and without fusion"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
