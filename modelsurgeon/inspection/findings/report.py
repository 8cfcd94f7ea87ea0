"""The report of `check`: findings, the gravest first, that can show themselves."""

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
    """How much of the time of all nodes goes to waiting for memory, on a machine of this balance.

    A node takes as long as the slower of its FLOPs and its bytes, at `balance` FLOPs for each byte; nodes
    are taken as they stand in the file, unfused. Source: Williams, Waterman and Patterson, 2009.
    """

    balance: float
    memory_bound_share: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the rules found in one model.

    model: the file, its inputs and outputs. rules: those that were asked. notes: what had to be assumed.
    few: how many findings of one rule the tables show; None for all.
    """

    model: Mapping[str, Any]
    findings: Sequence[Finding]
    rules: Sequence[Rule]
    roofline: Roofline
    notes: Sequence[str] = ()
    few: int | None = None

    def at_least(self, severity: Severity) -> Report:
        """Without the findings that are less grave than this; a note tells how many they were."""
        kept = self.reaching(severity)
        milder = len(self.findings) - len(kept)
        notes = [f"{milder} milder findings aren't shown", *self.notes] if milder else self.notes
        return replace(self, findings=kept, notes=notes)

    def reaching(self, severity: Severity) -> list[Finding]:
        """The findings at least as grave as this."""
        return [finding for finding in self.findings if reaches(finding.severity, severity)]

    def brief(self, few: int) -> Report:
        """With tables that show the worst few findings of each rule, and tell how many more there are."""
        return replace(self, few=few)

    def counts(self) -> dict[Severity, int]:
        """Findings of each severity."""
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
        """The findings as SARIF 2.1.0, which code hosts show beside the file."""
        from modelsurgeon.inspection.findings import sarif

        return sarif.document(self.path, self.rules, self.findings)

    def junit(self, fail_on: Severity | None = "error") -> str:
        """The rules as JUnit XML: findings at least as grave as `fail_on` are failures, None for none."""
        from modelsurgeon.inspection.findings import junit

        return junit.document(self.path, self.rules, self.findings, fail_on)

    def tables(self) -> list[Table]:
        """The findings, and what to do about each rule's first."""
        found = [self._finding_table()]
        if self.findings:
            first = {finding.rule: finding for finding in reversed(self.findings)}
            rows = [vars(finding) for finding in reversed(first.values())]
            found.append(Table(title="What to do", columns=ADVICE_COLUMNS, rows=rows))
        return found

    def __rich__(self) -> RenderableType:
        """What rich prints: the tables one below the other."""
        from modelsurgeon.report.text_layout import stacked

        return stacked(self.tables())

    @property
    def path(self) -> str:
        """The model's file; `model` where it came from none."""
        return str(self.model.get("path") or "model")

    def _finding_table(self) -> Table:
        by_rule: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_rule.setdefault(finding.rule, []).append(finding)
        return Table(
            title=PurePath(self.path).name,
            columns=FINDING_COLUMNS,
            rows=[vars(finding) for found in by_rule.values() for finding in found[: self.few]],
            notes=[*self._hidden(by_rule), self._told(), self._waits(), *self.notes],
        )

    def _hidden(self, by_rule: Mapping[str, Sequence[Finding]]) -> list[str]:
        """What the table leaves out."""
        more = {
            rule: len(found[self.few :]) if self.few is not None else 0 for rule, found in by_rule.items()
        }
        return [f"{rule}: {count} more like these" for rule, count in more.items() if count]

    def _told(self) -> str:
        counts = [_several(count, name) for name, count in self.counts().items()]
        return f"{_several(len(self.rules), 'rule')}: {', '.join(counts)}"

    def _waits(self) -> str:
        share, balance = percent(self.roofline.memory_bound_share), f"{self.roofline.balance:g}"
        return f"{share} of the time goes to waiting for memory, at {balance} FLOPs a byte and nothing fused"


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
